"""The controls: for every model on which claims are true, the models on which they must fail.

Random weights and misplaced heads (the same weights at wrong coordinates) serve for every claim; a planted circuit with one
part taken out shows that the claims on that part fall, and the others stand.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A model on which claims are true, and its controls, all named as for --subject."""

    subject: str
    controls: tuple[str, ...]


BASES: tuple[Base, ...] = (
    Base("mini", ("random:mini", "shuffled:mini")),
    Base(
        "planted",
        (
            "random",
            "shuffled:planted",
            "planted:without-S-inhibition",
            "planted:without-induction",
            "planted:without-duplicate-token",
            "planted:without-previous-token",
            "planted:without-negative",
            "planted:without-backups",
            "planted:name-movers-moved",
        ),
    ),
)

#: The models of which `audit.truth` knows what is true.
WITH_KNOWN_TRUTH = (BASES[1].subject, *BASES[1].controls)

#: Claims that no control can refute, each with the reason.
NO_CONTROL_CAN: dict[str, str] = {}
