"""One-sided tests of many means at once, over templates: the p-values that races and ranks are made of.

Of few prompts, the tests are corrected for skewness, as intervals are (`circuit_claims.measure.intervals.transformed`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from circuit_claims.measure import ties
from circuit_claims.measure.intervals import SKEWED_BELOW, skewness_of, transformed
from circuit_claims.measure.samples import Grid


@dataclass(frozen=True)
class ByTemplate:
    """The cells of a grid that were measured on all of its prompts, added up by template.

    cells: which they are, by their numbers. totals: the sum of each over each template's prompts; sizes: how many these are;
    whole: the sum of what the cells are shares of, or `sizes` where they are none. Where the whole is negative altogether, both
    have the opposite sign, so that the cell with the highest total is the highest. skewed: whether the prompts are so few that
    tests are corrected for skewness.
    """

    cells: Int[np.ndarray, " cell"]
    totals: Float[np.ndarray, "template cell"]
    sizes: Float[np.ndarray, " template"]
    whole: Float[np.ndarray, " template"]
    skewed: bool

    @classmethod
    def of(cls, grid: Grid) -> "ByTemplate":
        """The sums of a grid; where all prompts are of one template, each prompt counts as one."""
        names = {cluster: index for index, cluster in enumerate(dict.fromkeys(grid.clusters))}
        of_template = np.array([names[cluster] for cluster in grid.clusters]) if len(names) > 1 else np.arange(grid.n)
        values = grid.values.reshape(grid.n, -1)
        cells = np.arange(values.shape[1]) if grid.counts is None else np.flatnonzero(grid.counts.ravel() == grid.n)
        totals = np.zeros((of_template.max() + 1, len(cells)))
        np.add.at(totals, of_template, values[:, cells])
        sizes = np.bincount(of_template).astype(float)
        whole = sizes if grid.weights is None else np.bincount(of_template, weights=grid.weights)
        sign = -1.0 if whole.sum() < 0 else 1.0
        return cls(cells, sign * totals, sizes, sign * whole, grid.n < SKEWED_BELOW)

    def above(self, differences: Float[np.ndarray, "template cell"]) -> tuple[np.ndarray, np.ndarray]:
        """p-values against "the mean of these is not above zero", and against "it is above zero": of each cell."""
        return one_sided(differences, self.sizes, skewed=self.skewed)

    def over(self, place: int) -> Float[np.ndarray, "template cell"]:
        """By how much each cell lies above the one at `place` (among `cells`), template by template.

        A difference within rounding is none: its sign may be the same on every template, and is the machine's doing.
        """
        return self.over_each(np.array([place]))[:, 0]

    def over_each(self, places: Int[np.ndarray, " one"]) -> Float[np.ndarray, "template one cell"]:
        """The same over several cells at once."""
        differences = self.totals[:, None, :] - self.totals[:, places, None]
        differences[np.abs(differences) <= ties.rounding(self.totals)[:, :, None]] = 0
        return differences


def one_sided(
    differences: Float[np.ndarray, "template cell"], sizes: Float[np.ndarray, " template"], *, skewed: bool
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """The p-values of Student's test over templates, against "not above zero" and against "above zero".

    skewed: never below those of the statistic corrected for skewness.
    """
    groups = len(sizes)
    mean = differences.sum(0) / sizes.sum()
    if groups < 2:
        return np.ones_like(mean), np.ones_like(mean)
    errors = (differences - mean * sizes[:, None]) / sizes.sum()
    spread = np.sqrt(groups / (groups - 1) * (errors**2).sum(0))
    # Cells that differ by the same on every template differ for sure, and cells that are equal on every one tie for sure.
    certain = np.where(mean > 0, np.inf, -np.inf)
    statistic = np.divide(mean, spread, out=certain, where=spread > 1e-12 * np.abs(mean))
    tested = [statistic, transformed(statistic, skewness_of(errors))] if skewed else [statistic]
    return special.stdtr(groups - 1, -np.min(tested, axis=0)), special.stdtr(groups - 1, np.max(tested, axis=0))
