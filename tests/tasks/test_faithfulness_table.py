"""The table of faithfulness against circuits measured one template and order at a time, and its numbers on made-up means."""

from dataclasses import replace

import numpy as np
import pytest

from circuit_claims.heads import Head
from circuit_claims.prompts.templates import ORDERS
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.faithfulness_statistics import of_template, overall, ratio, smallest_lead_of_BABA
from circuit_claims.tasks.ioi.faithfulness_table import PROMPTS_OF_EACH, faithfulness_table
from circuit_claims.tasks.ioi.task import IOI
from tests.support import plain_twins
from tests.support.plain_twins import alone, plain_difference, plain_knock_out

N = 4
TEMPLATES = (7, 0)
NODES = frozenset({(Head(0, 4), "END"), (Head(2, 6), "S2"), (Head(3, 0), "END"), (Head(3, 3), "END")})


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def bos(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def ioi(mini: Subject) -> IOI:
    return plain_twins.task(mini, bos=False, templates=TEMPLATES)


def test_a_cell_is_the_faithfulness_of_that_template_and_order(ioi, bos):
    """The table says with or without BOS by itself, whatever the task does."""
    table = faithfulness_table(ioi, NODES, prepend_bos=bos)
    grid = table.take(N)
    assert table.prepend_bos == bos and ("with BOS" if bos else "without BOS") in grid.quantity
    for row, template in enumerate(TEMPLATES):
        for order in ORDERS:
            task = replace(ioi, prepend_bos=bos).on(templates=[template], orders=[order])
            faithfulness = task.circuit(NODES).faithfulness().take(N)
            column = 2 * ORDERS.index(order)
            assert grid.values[:, row, column] == pytest.approx(faithfulness.values, abs=1e-5)
            assert grid.values[:, row, column + 1] == pytest.approx(faithfulness.weights, abs=1e-5)
            assert of_template(row, order)(grid.estimate) == pytest.approx(faithfulness.estimate, abs=1e-5)
            assert {(prompt.template, prompt.order) for prompt in faithfulness.prompts} == {(template, order)}
    shown = np.array(grid.figure()["values"])
    assert len({round(float(value), 3) for value in shown.flat}) == 4, "no two cells are alike"


def test_a_cell_is_that_of_hooks(ioi):
    """One cell of the table, all the way down: prompts drawn here, circuit by hooks, ratio of means."""
    grid = faithfulness_table(ioi, NODES, prepend_bos=True).take(2)
    here = replace(ioi, prepend_bos=True)
    prompts = replace(ioi.population, templates=(0,), orders=("BABA",)).sample(2, ioi.seed)
    circuit = [plain_knock_out(here, prompt, kept=NODES) for prompt in prompts]
    model = [plain_difference(here, alone(here, prompt)) for prompt in prompts]
    assert grid.values[:, 1, 2] == pytest.approx(circuit, abs=1e-4)
    assert grid.values[:, 1, 3] == pytest.approx(model, abs=1e-4)
    assert of_template(1, "BABA")(grid.estimate) == pytest.approx(sum(circuit) / sum(model), abs=1e-4)


def test_the_heatmap_shows_the_ratios_and_the_rest_is_labelled(ioi):
    table = faithfulness_table(ioi, NODES, prepend_bos=False)
    grid = table.take(N)
    figure, means = grid.figure(), grid.values.mean(0)
    assert np.array(figure["values"]) == pytest.approx(np.stack([means[:, 0] / means[:, 1], means[:, 2] / means[:, 3]], axis=1))
    assert figure["rows"] == ["7", "0"] and figure["columns"] == list(ORDERS) == ["ABBA", "BABA"]
    assert list(grid.column_labels) == ["ABBA circuit", "ABBA model", "BABA circuit", "BABA model"]
    assert table.limit == PROMPTS_OF_EACH == 50 and grid.n == N


def test_the_whole_is_the_models_logit_difference_on_all_prompts_of_the_table(ioi, bos):
    """What the verdict asks before it believes a ratio: one sample of all cells, in clusters by template."""
    grid = faithfulness_table(ioi, NODES, prepend_bos=bos).take(N)
    whole = grid.whole
    assert whole.n == 4 * N and whole.weights is None
    assert sorted(whole.values) == pytest.approx(sorted(grid.values[..., [1, 3]].ravel()))
    assert list(whole.clusters) == [7] * 2 * N + [0] * 2 * N
    of_seven = whole.values[[cluster == 7 for cluster in whole.clusters]]
    assert of_seven.mean() == pytest.approx(grid.values[:, 0, [1, 3]].mean())


def test_the_numbers_of_the_table_on_made_up_means():
    """Three templates: circuit and model in ABBA, circuit and model in BABA."""
    means = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 1.0, 4.0], [3.0, 4.0, 4.0, 2.0]])
    assert ratio(means, "ABBA").tolist() == [0.5, 1.0, 0.75]
    assert ratio(means, "BABA").tolist() == [0.75, 0.25, 2.0]
    assert [of_template(i, "BABA")(means) for i in range(3)] == [0.75, 0.25, 2.0]
    assert smallest_lead_of_BABA(means) == -0.75
    assert smallest_lead_of_BABA(means[[0, 2]]) == 0.25
    assert overall(means) == pytest.approx((0.5 + 1.0 + 0.75 + 0.75 + 0.25 + 2.0) / 6)
    # Ratios first, then their mean: not the ratio of all circuits to all models.
    assert overall(means) != pytest.approx(means[:, [0, 2]].sum() / means[:, [1, 3]].sum())


def test_the_numbers_of_the_table_go_through_resamples():
    resamples = np.random.default_rng(0).uniform(1, 2, size=(7, 3, 4))
    for number in (smallest_lead_of_BABA, overall, of_template(2, "ABBA")):
        assert number(resamples) == pytest.approx([float(number(means)) for means in resamples])
