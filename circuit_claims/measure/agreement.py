"""How far one sweep agrees with another of the same cells, or with what was published of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from circuit_claims.cards.schema import PublishedTable
from circuit_claims.measure.grid import Grid, cell_name
from circuit_claims.measure.grid_statistics import Statistic
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples


def two_sweeps(exact: Measurement, estimated: Measurement, quantity: str, estimate: str) -> Measurement:
    """Two sweeps of the same cells, with one denominator, side by side: a grid of twice the columns, drawn as a scatter.

    estimate: what the second sweep is, on its axis. Raises ValueError where the two have not the same cells and prompts.
    """

    def take(n: int) -> Grid:
        a, b = exact.take(n), estimated.take(n)
        a, b = _grid(a), _grid(b)
        if a.values.shape != b.values.shape or list(a.clusters) != list(b.clusters):
            raise ValueError(f"{a.quantity} and {b.quantity} are not of the same cells and prompts: sweep both alike")
        both = replace(a, values=np.concatenate([a.values, b.values], axis=2), quantity=quantity)
        x, y = (half.ravel() for half in halves(both.estimate))
        labels = [cell_name(row, column) for row in a.row_labels for column in a.column_labels]
        points = [{"label": name, "x": float(p), "y": float(q)} for name, p, q in zip(labels, x, y, strict=True)]
        drawn: dict[str, Any] = {"kind": "scatter", "title": quantity, "x_axis": f"patched, {a.unit}", "y_axis": estimate}
        return replace(both, drawn=drawn | {"points": points, "r": float(correlation(both.estimate))})

    return replace(exact, take=take)


def halves(means: Float[np.ndarray, "*resample row both"]) -> tuple[np.ndarray, np.ndarray]:
    """The two sweeps that stand side by side, each `[..., row, column]`."""
    width = means.shape[-1] // 2
    return means[..., :width], means[..., width:]


def correlation(means: Float[np.ndarray, "*resample row both"]) -> Float[np.ndarray, "*resample"]:
    """Pearson's coefficient of two sweeps over their cells; 0 where one is the same everywhere."""
    return pearson(*halves(means))


def largest_difference(means: Float[np.ndarray, "*resample row both"]) -> Float[np.ndarray, "*resample"]:
    """The largest difference of two sweeps in any cell."""
    a, b = halves(means)
    return np.abs(a - b).max((-2, -1))


def pearson(
    a: Float[np.ndarray, "*resample row column"], b: Float[np.ndarray, "*any row column"]
) -> Float[np.ndarray, "*resample"]:
    """Pearson's coefficient of two grids over their cells; 0 where one is the same everywhere."""
    a, b = a - a.mean((-2, -1), keepdims=True), b - b.mean((-2, -1), keepdims=True)
    spread = np.sqrt((a * a).sum((-2, -1)) * (b * b).sum((-2, -1)))
    products = (a * b).sum((-2, -1))
    return np.divide(products, spread, out=np.zeros_like(products), where=spread > 1e-12)


def beside(sweep: Measurement, published: PublishedTable) -> Measurement:
    """The cells of a sweep that a table gives, with what it gives for them: drawn as expected, observed and difference.

    published: a row a row and a column a column of the sweep, all of them; or one column, and rows named as cells: "L10H7" by
    head, "L8 10" by position.

    Raises KeyError for a row that is no cell of the sweep.
    """

    def take(n: int) -> Grid:
        grid = _grid(sweep.take(n))
        expected = np.array(published.values)
        if expected.shape == grid.values.shape[1:]:
            return replace(grid, published=expected)
        cells = named_cells(grid)
        places = [cells[name] for name in published.rows]
        values = np.stack([grid.values[:, row, column] for row, column in places], axis=1)[:, :, None]
        return replace(
            grid, values=values, row_axis="cell", row_labels=published.rows, column_axis="", column_labels=published.columns,
            marks=(), published=expected,
        )  # fmt: skip

    return replace(sweep, take=take)


def published_difference(sweep: Measurement, published: PublishedTable) -> Measurement:
    """The largest difference of a sweep from what was published of it, over the cells that were (see `beside`)."""
    expected = np.array(published.values)
    quantity = f"largest difference from the published {'table' if expected.shape[1] > 1 else 'cells'}"
    return beside(sweep, published).of(lambda means: np.abs(means - expected).max((-2, -1)), quantity, published.unit)


def published_correlation(sweep: Measurement, published: PublishedTable) -> Measurement:
    """Pearson's coefficient of a sweep with what was published of it, over the cells that were."""
    return beside(sweep, published).of(_with(published.values), "correlation with the published table", "correlation")


def _with(expected: Sequence[Sequence[float]]) -> Statistic:
    return lambda means: pearson(means, np.array(expected))


def _grid(taken: Samples | Grid) -> Grid:
    if not isinstance(taken, Grid):  # no assert, which would refute the claim
        raise TypeError(f"{taken.quantity} is one number a prompt and no sweep: give a measurement of a grid of cells")
    return taken


def named_cells(grid: Grid) -> dict[str, tuple[int, int]]:
    """The cells of a sweep by their names."""
    return {
        cell_name(row, column): (i, j) for i, row in enumerate(grid.row_labels) for j, column in enumerate(grid.column_labels)
    }
