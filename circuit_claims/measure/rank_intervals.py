"""The rank of a sweep's cells, with an interval that holds where cells are nearly tied: a race of one look."""

from collections.abc import Sequence

from circuit_claims.measure.races.ranks import RankRace
from circuit_claims.measure.samples import Grid


def rank_interval(
    grid: Grid, cells: Sequence[tuple[int, int]], confidence: float, *, lowest: bool = False
) -> tuple[float, float, float]:
    """The worst rank among `cells` with its interval: (observed, low, high).

    cells: (row, column) each. Rank 1 is the highest mean, or with `lowest` the lowest; cells that tie, to within rounding,
    share the better rank.
    The templates are the unit, as for every interval; prompts are where there is one template alone. Of an exact grid, ranks
    are exact.
    """
    rows, columns = grid.values.shape[1:]
    return RankRace((rows, columns), cells, confidence, lowest=lowest).look(grid)
