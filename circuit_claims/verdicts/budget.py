"""How many prompts a verdict may cost, at which numbers of prompts it is looked at, and with which confidence.

Every look is another chance to be wrong, so the looks share the error rate. An early look at few prompts gets a small part of
it: what is clear is seen there, and the later looks lose next to nothing (Haybittle 1971; Peto et al. 1976, "Design and
analysis of randomized clinical trials", part I, section 8).
"""

from dataclasses import dataclass

from circuit_claims.measure.blocks import FULL_LOOK
from circuit_claims.measure.intervals import CONFIDENCE

#: The part of the error rate that an early look may spend.
EARLY = 0.1


@dataclass(frozen=True)
class Budget:
    """How many prompts a verdict may cost: `first` at the first look, doubled at each further one, `most` at the last.

    The second look is at 120 prompts or more: a first one at a few, 30 by default, is an early look.
    """

    first: int
    most: int
    confidence: float = CONFIDENCE
    #: Prompts in one example of a universal claim: its statement is about every population, so each gets a small batch.
    batch: int = 16

    def looks(self, limit: int | None) -> list[int]:
        """The sample sizes of the successive looks.

        limit: the size of a finite population; nothing beyond it is planned for, and one of less than twice the first look is
        looked at whole.
        """
        most = max(self.first, self.most) if limit is None else min(max(self.first, self.most), limit)
        sizes = [most if limit is not None and limit < 2 * self.first else self.first]
        while sizes[-1] < most:
            sizes.append(min(max(sizes[-1] * 2, FULL_LOOK), most))
        return sizes

    def looks_shared(self, limit: int | None) -> list[tuple[int, float]]:
        """The sizes of the looks, with the confidence that the interval of each must have.

        limit: as in `looks`.
        """
        sizes = self.looks(limit)
        error = 1 - self.confidence
        if not self.is_early(sizes[0], limit):
            return [(size, 1 - error / len(sizes)) for size in sizes]
        each = error * (1 - EARLY) / (len(sizes) - 1)
        return [(sizes[0], 1 - EARLY * error), *((size, 1 - each) for size in sizes[1:])]

    def is_early(self, n: int, limit: int | None) -> bool:
        """Whether a look at n prompts is an early one: the next is at more than twice as many."""
        first, *others = self.looks(limit)
        return bool(others) and n <= first and 2 * first < others[0]
