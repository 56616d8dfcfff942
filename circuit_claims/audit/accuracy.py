"""Verdicts held against the truth: how many true statements hold, and how many false ones are refuted."""

from collections.abc import Iterable
from typing import NamedTuple

from circuit_claims.audit.table import FALSE, TRUE, Audited
from circuit_claims.audit.truth import truth
from circuit_claims.verdicts.rows import INCONCLUSIVE, UNTESTED


class Pair(NamedTuple):
    """A claim and a model of which the construction says whether the claim is true, and the verdict."""

    claim_id: str
    subject: str
    true: bool
    verdict: str


class Accuracy(NamedTuple):
    """How verdicts compare with the truth over all pairs of a claim and a model of which the truth is known."""

    pairs: tuple[Pair, ...]

    def of(self, true: bool) -> list[Pair]:
        """The pairs in which the claim is true, or false."""
        return [pair for pair in self.pairs if pair.true == true]

    @property
    def sensitivity(self) -> float:
        """The share of true statements that hold; those without a clear verdict count as if they did not."""
        true = self.of(True)
        return sum(pair.verdict in TRUE for pair in true) / len(true) if true else float("nan")

    @property
    def specificity(self) -> float:
        """The share of false statements that are refuted; those without a clear verdict count as if they were not."""
        false = self.of(False)
        return sum(pair.verdict in FALSE for pair in false) / len(false) if false else float("nan")

    @property
    def wrong(self) -> list[Pair]:
        """True statements that were refuted, and false ones that held."""
        return [pair for pair in self.pairs if pair.verdict in (FALSE if pair.true else TRUE)]

    @property
    def unclear(self) -> list[Pair]:
        """Those without a clear verdict."""
        return [pair for pair in self.pairs if pair.verdict == INCONCLUSIVE]

    def on(self, subject: str) -> "Accuracy":
        """The same on one model."""
        return Accuracy(tuple(pair for pair in self.pairs if pair.subject == subject))

    def counts(self) -> tuple[str, str]:
        """`48 of 49`: true statements that hold, and false ones that are refuted; empty where there are none."""
        said = []
        for true, right in ((True, TRUE), (False, FALSE)):
            pairs = self.of(true)
            said.append(f"{sum(pair.verdict in right for pair in pairs)} of {len(pairs)}" if pairs else "")
        return said[0], said[1]

    def __str__(self) -> str:
        return (
            f"sensitivity {self.sensitivity:.1%} ({len(self.of(True))} true statements), "
            f"specificity {self.specificity:.1%} ({len(self.of(False))} false ones); {len(self.wrong)} wrong verdicts, "
            f"{len(self.unclear)} unclear"
        )


def accuracy(audit: Iterable[Audited], subjects: Iterable[str]) -> Accuracy:
    """The verdicts on these models, where the truth is known; untested claims are left out.

    subjects: those of `circuit_claims.audit.truth`.
    """
    pairs = []
    for claim in audit:
        for subject in subjects:
            verdict = claim.verdicts.get(subject, UNTESTED)
            if verdict != UNTESTED and (true := truth(claim.claim_id, subject)) is not None:
                pairs.append(Pair(claim.claim_id, subject, true, verdict))
    return Accuracy(tuple(pairs))
