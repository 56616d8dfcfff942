"""Numbers read off direct attributions: in which layer most is written, how two sweeps agree, and the report's figures.

Each takes means `[..., row, column]` of a grid and gives numbers `[...]`, as those of `circuit_claims.measure.grid_statistics`
do.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from circuit_claims.measure import ties
from circuit_claims.measure.agreement import pearson
from circuit_claims.measure.grid_statistics import Statistic

#: The columns of a grid of layers.
ATTENTION, MLP = 0, 1

#: Further than this no share of what heads write is told from another.
MOST = 10.0

Means = Float[np.ndarray, "*resample row column"]


def accumulated(parts: Float[np.ndarray, "prompt part"]) -> Float[np.ndarray, "prompt point"]:
    """The stream's own attribution before each layer, between its attention and MLP, and after the last, from those of parts.

    parts: the embedding's, then each layer's attention's and MLP's. The norm's scale is the same for all, so that they add up.
    """
    return np.cumsum(parts, axis=-1)


def points(n_layers: int) -> list[str]:
    """What these points are called: `0_pre`, `0_mid`, ..., `final_post`, as TransformerLens labels them."""
    return [f"{layer}_{where}" for layer in range(n_layers) for where in ("pre", "mid")] + ["final_post"]


def highest_layer(column: int) -> Statistic:
    """The layer whose attention, or MLP, adds most."""
    return lambda means: ties.first_highest(means[..., column])


def lowest_layer(column: int) -> Statistic:
    """The layer whose attention, or MLP, takes most away."""
    return lambda means: ties.first_lowest(means[..., column])


def largest_layer(column: int) -> Statistic:
    """The layer whose attention, or MLP, counts most, whatever its sign."""
    return lambda means: ties.first_highest(np.abs(means[..., column]))


def larger_inside(column: int, first: int, last: int) -> Statistic:
    """The mean size of a column from layer `first` to `last` minus that in all other layers."""

    def statistic(means: Means) -> Float[np.ndarray, "*resample"]:
        sizes, inside = np.abs(means[..., column]), np.zeros(means.shape[-2], dtype=bool)
        inside[first : last + 1] = True
        return sizes[..., inside].mean(-1) - sizes[..., ~inside].mean(-1)

    return statistic


def between_rows(means: Float[np.ndarray, "*resample 2 cell"]) -> Float[np.ndarray, "*resample"]:
    """Pearson's coefficient of two rows; 0 where one of them is the same everywhere."""
    return pearson(means[..., :1, :], means[..., 1:, :])


def ratio(means: Float[np.ndarray, "*resample 1 2"]) -> Float[np.ndarray, "*resample"]:
    """The first column over the second, within ±10; 10 of what is a share of nothing, which no bound allows."""
    part, whole = means[..., 0, 0], means[..., 0, 1]
    shares = np.divide(part, whole, out=np.full_like(part, MOST), where=whole > 0)
    return np.clip(shares, -MOST, MOST)


def curve(title: str, labels: Sequence[str], axis: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    """One quantity along the stream, as the report draws it."""
    line = {"label": "model", "values": [float(value) for value in values], "low": None, "high": None}
    return {"kind": "curves", "title": title, "x": list(labels), "x_axis": axis, "y_axis": unit, "curves": [line], "marks": []}


def scatter(
    title: str, x: tuple[str, Sequence[float]], y: tuple[str, Sequence[float]], labels: Sequence[str], r: float | None
) -> dict[str, Any]:
    """Two numbers of every head, as the report draws them; a label "" leaves a point without a name."""
    points = [{"label": label, "x": float(a), "y": float(b)} for label, a, b in zip(labels, x[1], y[1], strict=True)]
    return {"kind": "scatter", "title": title, "x_axis": x[0], "y_axis": y[0], "points": points, "r": r}
