"""What a measurement gives: labels, frames, figures and intervals of samples and grids."""

from io import BytesIO

import numpy as np
import pytest

from circuit_claims.heads import Head
from circuit_claims.measure.intervals import grid_interval, mean_interval, rate_interval
from circuit_claims.measure.samples import Grid, Samples


def test_a_grid_of_heads_labels_layers_and_heads():
    grid = Grid.of_heads(np.zeros((4, 2, 3)), "recovery", "share", [0, 1, 0, 1], marks=[Head(1, 2)], exact=True)
    assert (grid.row_labels, grid.column_labels) == (["L0", "L1"], ["H0", "H1", "H2"])
    assert (grid.row_axis, grid.column_axis) == ("layer", "head")
    assert list(grid.marks) == [(1, 2)] and grid.exact and list(grid.clusters) == [0, 1, 0, 1]
    assert list(Grid.of_heads(np.zeros((4, 2, 3)), "recovery", "share").clusters) == [0, 1, 2, 3]


def test_a_grid_of_heads_may_begin_at_a_later_layer():
    grid = Grid.of_heads(np.zeros((1, 2, 3)), "recovery", "share", first_layer=9, marks=[Head(9, 1), Head(10, 0), Head(8, 2)])
    assert grid.row_labels == ["L9", "L10"]
    assert list(grid.marks) == [(0, 1), (1, 0)], "marks are cells; the head of layer 8 has none"


def made_up(**more) -> Samples:
    """Thirty prompts of five templates."""
    drawn = np.random.default_rng(0).normal(3.0, 1.0, 30)
    return Samples(drawn, "logit <difference>", "logits", [i % 5 for i in range(30)], **more)


def sweep(**more) -> Grid:
    cells = np.random.default_rng(1).normal(0.0, 0.1, (30, 2, 3))
    cells[:, 1, 2] += 2
    cells[:, 0, 1] -= 3
    return Grid.of_heads(cells, "recovery by <patching>", "logits", [i % 5 for i in range(30)], **more)


def test_samples_have_the_interval_that_a_verdict_uses():
    samples = made_up()
    assert samples.mean_interval() == mean_interval(samples, 0.95, 0)
    assert samples.mean_interval(0.99, seed=3) == mean_interval(samples, 0.99, 3)
    low, high = samples.mean_interval()
    assert low < samples.estimate < high
    rate = Samples(np.ones(30), "it", "rate", range(30))
    assert rate.mean_interval() == rate_interval(rate, 0.95) and rate.mean_interval()[0] < 1


def test_every_cell_has_the_interval_of_its_own_samples():
    whole = made_up()
    for grid in (sweep(), sweep().share_of(whole, "share")):
        low, high = grid.interval()
        assert low.shape == high.shape == grid.estimate.shape == (2, 3)
        weights = None if grid.weights is None else whole.values
        for row, column in np.ndindex(2, 3):
            cell = Samples(grid.values[:, row, column], "", "logits", grid.clusters, weights=weights)
            assert (low[row, column], high[row, column]) == mean_interval(cell, 0.95, 0)
    assert (np.diff([sweep().interval(0.5), sweep().interval(0.99)], axis=1)[1] > 0).all()


def test_a_cell_is_named_and_keeps_what_its_grid_says_of_it():
    whole, task = made_up(), Samples(np.full(30, 2.0), "task", "logits", [i % 5 for i in range(30)])
    cell = sweep(facts={"subject": "x"}).share_of(whole, "share").presupposing(task).cell(1, 2)
    assert cell.quantity == "share, L1H2" and cell.unit == "share" and cell.facts == {"subject": "x"}
    assert cell.estimate == pytest.approx(sweep().values[:, 1, 2].mean() / whole.estimate)
    assert [each.values.tolist() for each in cell.presupposed] == [task.values.tolist(), whole.values.tolist()]


def test_a_number_read_off_a_grid_has_an_estimate_and_an_interval():
    number = sweep().of(lambda means: means.max((-2, -1)), "the highest", "logits")
    assert number.estimate == pytest.approx(sweep().estimate.max())
    assert number.interval() == grid_interval(number, 0.95, 0)[1:]


def test_samples_as_a_frame():
    frame = made_up(prompts=[f"prompt {i}" for i in range(30)]).to_frame()
    assert list(frame.columns) == ["prompt", "cluster", "value"] and len(frame) == 30
    assert frame["value"].tolist() == made_up().values.tolist() and frame["prompt"].tolist()[7] == "prompt 7"
    assert frame.groupby("cluster")["value"].size().tolist() == [6] * 5
    assert frame.attrs == {"quantity": "logit <difference>", "unit": "logits"}
    share = made_up().share_of(Samples(np.full(30, 2.0), "whole", "logits", [i % 5 for i in range(30)]), "share").to_frame()
    assert list(share.columns) == ["cluster", "value", "whole"] and share["whole"].tolist() == [2.0] * 30


def test_a_grid_as_a_frame():
    grid = sweep()
    frame, (low, high) = grid.to_frame(), grid.interval()
    assert list(frame.columns) == ["layer", "head", "estimate", "low", "high"] and len(frame) == 6
    highest = frame.nlargest(1, "estimate").iloc[0]
    assert highest[["layer", "head"]].tolist() == ["L1", "H2"]
    assert highest[["estimate", "low", "high"]].tolist() == [grid.estimate[1, 2], low[1, 2], high[1, 2]]
    assert frame.attrs == {"quantity": "recovery by <patching>", "unit": "logits"}
    plain = Grid(np.ones((4, 1, 2)), "x", "", range(4), row_axis="", column_axis="").to_frame()
    assert list(plain.columns[:2]) == ["row", "column"] and plain["column"].tolist() == ["0", "1"]


def test_samples_are_drawn_as_a_histogram():
    figure = made_up().plot()
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_xlabel()) == ("logit <difference>", "logits")
    assert sum(bar.get_height() for bar in axes.containers[0]) == 30
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [made_up().estimate] * 2
    figure.savefig(BytesIO(), format="png")


def test_a_grid_is_drawn_as_a_heatmap():
    from matplotlib.patches import Rectangle

    figure = sweep(marks=[Head(1, 2)]).plot()
    axes = figure.axes[0]
    assert np.asarray(axes.images[0].get_array()).tolist() == sweep().estimate.tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["L0", "L1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["H0", "H1", "H2"]
    (outline,) = axes.patches
    assert isinstance(outline, Rectangle) and outline.get_xy() == (1.5, 0.5), "the marked cell is outlined"
    figure.savefig(BytesIO(), format="png")


def test_figures_are_not_left_open():
    """A notebook shows an open figure a second time, and pyplot keeps it for ever."""
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    made_up().plot()
    sweep().plot()
    assert pyplot.get_fignums() == before


def test_html_is_small_and_escaped():
    samples = made_up(prompts=[f"<b>prompt {i}</b>" for i in range(30)], population="prompts & more")._repr_html_()
    low, high = made_up().mean_interval()
    assert f"{made_up().estimate:.4g} [{low:.4g}, {high:.4g}] logits, 30 prompts (prompts &amp; more)" in samples
    assert "logit &lt;difference&gt;" in samples and "&lt;b&gt;prompt 0&lt;/b&gt;" in samples
    assert "<b>" not in samples and "prompt 29" not in samples
    html = sweep()._repr_html_()
    assert "recovery by &lt;patching&gt;" in html and "<patching>" not in html
    assert html.index("L0</td>\n      <td>H1") < html.index("L1</td>\n      <td>H2"), "the largest in size come first"
    big = Grid.of_heads(np.random.default_rng(0).normal(size=(30, 48, 25)), "x", "", range(30))._repr_html_()
    assert big.count("<tr") == 9 and len(big) < 3000
