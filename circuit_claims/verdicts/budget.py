"""How many prompts a verdict may cost, and at which numbers of prompts it is looked at."""

from dataclasses import dataclass

from circuit_claims.measure.intervals import CONFIDENCE


@dataclass(frozen=True)
class Budget:
    """How many prompts a verdict may cost: `first` at the first look, doubled at each further one, `most` at the last."""

    first: int
    most: int
    confidence: float = CONFIDENCE
    #: Prompts in one example of a universal claim: its statement is about every population, so each gets a small batch.
    batch: int = 16

    def looks(self, limit: int | None) -> list[int]:
        """The sample sizes of the successive looks.

        limit: the size of a finite population; nothing beyond it is planned for.
        """
        most = max(self.first, self.most) if limit is None else min(max(self.first, self.most), limit)
        sizes = [min(self.first, most)]
        while sizes[-1] < most:
            sizes.append(min(sizes[-1] * 2, most))
        return sizes
