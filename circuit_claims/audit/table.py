"""The audit's table: each claim's verdict on every base and control, and what follows from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from circuit_claims.audit.controls import BASES, NO_CONTROL_CAN, OWN_CARD
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, NOW_TRUE, REFUTED, UNTESTED

#: The verdicts that say that a claim is false.
FALSE = (REFUTED, KNOWN_FALSE)
TRUE = (HOLDS, NOW_TRUE)


@dataclass
class Audited:
    """One claim: its verdict on each subject that it was run on; a claim of several rows has the worst of theirs."""

    claim_id: str
    statement: str
    verdicts: dict[str, str] = field(default_factory=dict)

    @property
    def refuted_by(self) -> list[str]:
        """The controls that refute it."""
        return [control for control in _controls() if self.verdicts.get(control) in FALSE]

    @property
    def holds_on(self) -> list[str]:
        """The bases on which it holds."""
        return [base.subject for base in BASES if self.verdicts.get(base.subject) in TRUE]

    @property
    def audited(self) -> bool:
        """Whether any control could say anything of it: elsewhere it is untested."""
        return any(self.verdicts.get(control, UNTESTED) != UNTESTED for control in _controls())

    @property
    def vacuous(self) -> bool:
        """Whether controls ran it and none refuted it, without a reason why none can.

        A control with its own card is asked of heads that no other card names, and what is said of these may be true of it.
        """
        asked = [control for control in _controls() if not control.endswith(OWN_CARD)]
        ran = any(self.verdicts.get(control, UNTESTED) != UNTESTED for control in asked)
        return ran and not self.refuted_by and self.claim_id not in NO_CONTROL_CAN


def table(reports: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[Audited]:
    """The audit of the rows that each subject's report holds, in the order in which claims first appear."""
    found: dict[str, Audited] = {}
    for subject, rows in reports.items():
        for row in rows:
            identity = str(row["claim_id"]).partition("#")[0]
            claim = found.setdefault(identity, Audited(identity, str(row["statement"])))
            claim.verdicts[subject] = _worse(claim.verdicts.get(subject), str(row["verdict"]))
    return list(found.values())


def controls_by_claim(audit: Iterable[Audited]) -> dict[str, list[str]]:
    """What a row's `controls` column says: the controls that refute its claim."""
    return {claim.claim_id: claim.refuted_by for claim in audit if claim.audited}


def _worse(a: str | None, b: str) -> str:
    """Of two rows of one claim, the verdict that the claim has: refuted where either is, and so on down."""
    order = (REFUTED, KNOWN_FALSE, "invalid", INCONCLUSIVE, UNTESTED, NOW_TRUE, HOLDS)
    return b if a is None else min((a, b), key=order.index)


def _controls() -> list[str]:
    return list(dict.fromkeys(control for base in BASES for control in base.controls))
