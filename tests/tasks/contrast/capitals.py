"""Pairs of prompts that the embedded model can answer: capitals of countries."""

from typing import Any

from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.mini_words import CAPITALS
from circuit_claims.tasks.contrast.task import ContrastTask

#: Another phrasing has other positions, and more tokens.
FORMS = ("The capital of [country: {}] is", "The capital city of [country: {}] is called")


def capitals(form: str = FORMS[0], corrupted: str | None = None) -> list[dict[str, Any]]:
    """A pair for each country, with the next country in the corrupted text; the two texts may be of different forms."""
    around = list(CAPITALS.items())
    return [
        {"clean": form.format(country), "corrupted": (corrupted or form).format(other), "answer": city, "foil": foil}
        for (country, city), (other, foil) in zip(around, around[1:] + around[:1], strict=True)
    ]


def task(subject: Any, pairs: Any = None, *, bos: bool = False, **options: Any) -> ContrastTask:
    """The task of these pairs, or of capitals."""
    settings = {name: options.pop(name) for name in ("metric", "seed", "chunk") if name in options}
    return ContrastTask.of(subject, Contrasts.of(pairs or capitals(), **options), prepend_bos=bos, **settings)
