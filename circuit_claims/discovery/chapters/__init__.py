"""What a card says of circuits besides IOI's: a module a chapter, each with `find`, which measures what its claims ask for.

Each is written beside the card, as `my-card/induction.toml` beside `my-card.toml`, and read with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules

from circuit_claims.cards.card import Card
from circuit_claims.cards.settings import CardSettings
from circuit_claims.discovery.families import Found
from circuit_claims.discovery.findings import Findings
from circuit_claims.discovery.survey import Survey


@dataclass(frozen=True)
class Chapter:
    """Families by name, and findings by the part of the chapter that they belong to.

    settings: what the chapter's own prompts fix, whatever discovery was asked for.
    """

    families: Mapping[str, Found] = field(default_factory=dict)
    findings: Mapping[str, Findings] = field(default_factory=dict)
    settings: CardSettings = field(default_factory=CardSettings)


def names() -> list[str]:
    """The chapters that there are, in the order of their names."""
    return sorted(module.name for module in iter_modules(__path__))


def find(name: str, survey: Survey, card: Card) -> Chapter:
    """What the model shows of one chapter; `card` is what was found of the IOI circuit.

    Every chapter's module has such a function `find(survey, card)`; it measures on the discovery half of its prompts.
    """
    return import_module(f"{__name__}.{name}").find(survey, card)
