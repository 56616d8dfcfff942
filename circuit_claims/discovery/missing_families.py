"""The families of the literature that a model has not: of each, the head that comes nearest to its rule, and where it fails."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from circuit_claims.discovery.families import ATTENTION, BACKUP, EFFECT, LOOKS, Found, HeadScores, asked_of
from circuit_claims.discovery.survey import OfHeads
from circuit_claims.heads import Head

#: The families that the literature names (Wang et al. 2022), in its order.
OF_THE_LITERATURE = (
    "name mover",
    "negative name mover",
    "backup name mover",
    "S-inhibition",
    "induction",
    "duplicate token",
    "previous token",
)
NO_TASK = "the model does not do the task, so that no effects were sought"
NO_MOVERS = "there are no name movers to take over from"


@dataclass(frozen=True)
class Condition:
    """One part of a rule: numbers of every head and what they have to be above, or with a negative threshold below.

    says: what a head does by its number, which stands in place of the braces.
    """

    says: str
    numbers: OfHeads
    threshold: float

    @property
    def reached(self) -> Float[np.ndarray, "layer head"]:
        """How much of the threshold each head reaches: more than 1 where the part of the rule is met."""
        return self.numbers / self.threshold

    def of(self, head: Head) -> str:
        """What a head does, in words."""
        number = float(self.numbers[head])
        return self.says.format(f"{number:.2f}" if abs(self.threshold) == ATTENTION else f"{number:.3f}")

    @property
    def rule(self) -> str:
        """What it would have to be, in words."""
        return f"above {self.threshold:g}" if self.threshold > 0 else f"below −{-self.threshold:g}"


def missing(scores: HeadScores, found: Mapping[str, Found], *, shows_the_task: bool) -> dict[str, str]:
    """Of each family of the literature that was not found, and of which all is known, why not, in a sentence."""
    told = {}
    for name in OF_THE_LITERATURE:
        if name not in found and not any(np.isnan(numbers).any() for numbers in asked_of(name, scores)):
            told[name] = f"no {name} heads: {_why(name, scores, found, shows_the_task)}"
    return told


def _why(name: str, scores: HeadScores, found: Mapping[str, Found], shows_the_task: bool) -> str:
    if name not in LOOKS and not shows_the_task:
        return NO_TASK
    if name == "backup name mover" and "name mover" not in found:
        return NO_MOVERS
    alternatives = _conditions(name, scores, bool(found.get("name mover")))
    # Of parts of which one is enough, a head is judged by the one that it is nearest to.
    reached = np.min([np.max([part.reached for part in parts], axis=0) for parts in alternatives], axis=0)
    others = [head for family in found.values() if family.position == "END" for head in family.heads]
    if name == "backup name mover" and others:
        reached[tuple(np.array(others).T)] = -np.inf  # a backup is what is none of the others
    nearest = Head(*map(int, np.unravel_index(int(reached.argmax()), reached.shape)))
    met = [parts[0] for parts in alternatives if max(part.reached[nearest] for part in parts) > 1]
    failed = [parts for parts in alternatives if max(part.reached[nearest] for part in parts) <= 1]
    does = " and ".join(part.of(nearest) for part in met)
    short = " and ".join(f"{' and '.join(part.of(nearest) for part in parts)} (rule: {parts[0].rule})" for parts in failed)
    return f"{nearest} {does}, but {short}" if does else f"{nearest}, which comes nearest, {short}"


def _conditions(name: str, scores: HeadScores, movers: bool) -> list[list[Condition]]:
    """The parts of a rule, all of which a head has to meet: each a list of alternatives."""
    to_names = [Condition("attends from END to the two first names with {}", scores.to_names, ATTENTION)]
    into = Condition("carries {} into the name movers' queries", scores.into_movers, EFFECT)
    recovery = Condition("restores {} when patched at END", scores.recovery, EFFECT)
    to_S2 = Condition("attends from END to S2 with {}", scores.attention["END", "S2"], ATTENTION)
    grown = scores.direct_without - scores.direct
    direct, without = "carries {} straight to the logits", "carries {} straight to the logits with the name movers knocked out"
    of_family: dict[str, list[list[Condition]]] = {
        "name mover": [to_names, [Condition(direct, scores.direct, EFFECT)]],
        "negative name mover": [to_names, [Condition(direct, scores.direct, -EFFECT)]],
        "backup name mover": [
            to_names,
            [Condition(without, scores.direct_without, BACKUP)],
            [Condition("carries {} more than with them", grown, BACKUP)],
        ],
        "S-inhibition": [[to_S2], [into, recovery] if movers else [recovery]],
        "induction": [
            [Condition("attends on repeated random tokens to what followed with {}", scores.random["induction"], ATTENTION)]
        ],
        "duplicate token": [[Condition("attends from S2 to S1 with {}", scores.attention["S2", "S1"], ATTENTION)]],
        "previous token": [
            [Condition("attends one token back on random tokens with {}", scores.random["previous token"], ATTENTION)]
        ],
    }
    return of_family[name]
