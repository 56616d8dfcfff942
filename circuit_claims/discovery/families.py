"""Families of heads: which rules a head has to meet, and the evidence that it does.

The rules are those of the paper that named the families (Wang et al. 2022, sections 3.1 to 3.3, appendices B and H), with
thresholds that were fixed before any model was looked at. `propose` is the rules alone, on numbers of every head, which
`circuit_claims.discovery.family_search` measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import Family
from circuit_claims.discovery.survey import OfHeads
from circuit_claims.heads import Head
from circuit_claims.tasks.induction.repeated_tokens import Score

#: Attention that makes a head's pattern its role: not quite half, as of the strong heads of the literature (0.5 to 0.6).
ATTENTION = 0.4
#: Recovery or loss, as a share of the logit difference, below which a head is said to do nothing: the noise of a sweep.
EFFECT = 0.05
#: Direct effect of a backup once the name movers are gone, and its growth: the paper's own 2 % (appendix B).
BACKUP = 0.02

#: Where the early families look (from, to); the paper's positions are the first of each.
LOOKS: dict[Score, tuple[str, str]] = {
    "previous token": ("S1+1", "S1"),
    "duplicate token": ("S2", "S1"),
    "induction": ("S2", "S1+1"),
}


@dataclass(frozen=True)
class HeadScores:
    """What was measured of every head, each `[layer, head]`; effects are zero where there was nothing to measure them on.

    attention: (from, to) roles to mean attention. direct: what path patching (ABC) from END to the logits loses, as a share;
    recovery: what patching at END restores (name swap); into_movers: what path patching (ABC) into the name movers' queries
    loses; direct_without: as direct, with the name movers knocked out at END; random: scores on repeated random tokens.
    """

    attention: dict[tuple[str, str], OfHeads]
    random: dict[Score, OfHeads]
    direct: OfHeads
    recovery: OfHeads
    into_movers: OfHeads
    direct_without: OfHeads

    @property
    def to_names(self) -> OfHeads:
        """Attention from END to the two names of the first clause together."""
        return self.attention["END", "IO"] + self.attention["END", "S1"]


@dataclass(frozen=True)
class Found:
    """A family as found: by which rule, and for each head the evidence.

    note: why it is role_only, that is no part of the circuit; empty for one that is.
    """

    heads: tuple[Head, ...]
    position: str
    rule: str
    note: str = ""
    evidence: dict[Head, str] = field(default_factory=dict)


def name_movers(scores: HeadScores) -> list[Head]:
    """Heads that attend from END to the names and write IO (Wang et al. 2022, section 3.1)."""
    return _where((scores.to_names > ATTENTION) & (scores.direct > EFFECT))


def negative_name_movers(scores: HeadScores) -> list[Head]:
    """Heads that attend from END to the names and write against IO (Wang et al. 2022, section 3.1)."""
    return _where((scores.to_names > ATTENTION) & (scores.direct < -EFFECT))


def S_inhibition(scores: HeadScores) -> list[Head]:
    """Heads that attend from END to S2 and move the name movers' attention, or the answer (Wang et al. 2022, section 3.2)."""
    moves = (scores.into_movers > EFFECT) | (scores.recovery > EFFECT)
    return _where((scores.attention["END", "S2"] > ATTENTION) & moves)


def relays(scores: HeadScores, but: Sequence[Head]) -> list[Head]:
    """Other heads that move the name movers' attention, whatever they attend to: no class of the literature."""
    return [head for head in _where(scores.into_movers > EFFECT) if head not in but]


def backup_name_movers(scores: HeadScores, but: Sequence[Head]) -> list[Head]:
    """Other heads that attend to the names and write IO more once the name movers are gone (section 3.3, appendix B)."""
    grown = scores.direct_without - scores.direct
    takes_over = (scores.direct_without > BACKUP) & (grown > BACKUP)
    return [head for head in _where(takes_over & (scores.to_names > ATTENTION)) if head not in but]


def propose(scores: HeadScores) -> dict[str, Found]:
    """Every family that the rules find, in the order of the literature; those without heads are left out.

    Of families that act at END, a relay or a backup is what is none of the others; an early head acts at another position, so
    it may be one besides.
    """
    movers, negatives, inhibitors = name_movers(scores), negative_name_movers(scores), S_inhibition(scores)
    passing_on = relays(scores, [*movers, *negatives, *inhibitors])
    backups = backup_name_movers(scores, [*movers, *negatives, *inhibitors, *passing_on])
    names = f"attends from END to the two first names (together above {ATTENTION})"
    families = {
        "name mover": _at_end(movers, f"{names}, and its direct path to the logits carries more than {EFFECT}"),
        "backup name mover": _at_end(
            backups,
            f"{names}, and with the name movers knocked out its direct path carries more than {BACKUP}, and that much more "
            "than with them",
        ),
        "negative name mover": _at_end(negatives, f"{names}, and its direct path to the logits carries less than −{EFFECT}"),
        "S-inhibition": _at_end(
            inhibitors,
            f"attends from END to S2 (above {ATTENTION}), and its path into the name movers' queries, or patching it at END, "
            f"carries more than {EFFECT}",
        ),
        "relay": _at_end(
            passing_on,
            f"none of the above, and its path into the name movers' queries carries more than {EFFECT}",
            note="not a class of the literature: these heads pass on what S-inhibition heads do, whatever they attend to",
        ),
    }
    rules: dict[Score, str] = {
        "induction": f"attends on repeated random tokens to what followed before (above {ATTENTION})",
        "duplicate token": f"attends from S2 to S1 (above {ATTENTION})",
        "previous token": f"attends one token back on random tokens (above {ATTENTION})",
    }
    for name, rule in rules.items():
        seen = scores.attention["S2", "S1"] if name == "duplicate token" else scores.random[name]
        families[name] = Found(tuple(_where(seen > ATTENTION)), LOOKS[name][0], rule)
    for name in rules:
        strong = [head for head in families[name].heads if scores.random[name][head] > ATTENTION]
        families[f"validated {name}"] = Found(
            tuple(strong),
            families[name].position,
            f"the {name} heads whose score on repeated random tokens is above {ATTENTION}",
            note="a part of the family above, for the claim on random tokens",
        )
    return {name: found for name, found in families.items() if found.heads}


def circuit_card(card: Card, found: dict[str, Found], source: str) -> Card:
    """A card with these families, for whatever is measured on them."""
    families = {
        name: Family(name, family.heads, family.position, source, role_only=bool(family.note)) for name, family in found.items()
    }
    return replace(card, families=families)


def asked_of(name: str, scores: HeadScores) -> list[OfHeads]:
    """The numbers that the rule of a family looks at."""
    early = name.removeprefix("validated ")
    if early in LOOKS:
        in_prompts = [scores.attention["S2", "S1"]] if early == "duplicate token" else []
        return in_prompts if name == "duplicate token" else [*in_prompts, scores.random[early]]
    movers = [scores.to_names, scores.direct]
    inhibitors = [*movers, scores.attention["END", "S2"], scores.into_movers, scores.recovery]
    of_family = {"name mover": movers, "negative name mover": movers, "S-inhibition": inhibitors, "relay": inhibitors}
    return of_family.get(name, [*inhibitors, scores.direct_without])


def _at_end(heads: Sequence[Head], rule: str, note: str = "") -> Found:
    return Found(tuple(heads), "END", rule, note)


def _where(mask: np.ndarray) -> list[Head]:
    """The heads of which it is true, by layer and head."""
    return [Head(int(layer), int(head)) for layer, head in np.argwhere(mask)]
