"""What the claims on discovery measure, against what it is by definition, on the embedded model."""

import numpy as np
import pytest

from circuit_claims.edge_discovery import task as discovery_task
from circuit_claims.edge_discovery.task import FEW, JUDGED_ON, SCORED_ON, EdgeDiscovery
from circuit_claims.edges.curve import EdgeCurve, cmd_of, cpr_of, faithfulness_of
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.known import auroc
from circuit_claims.edges.pairs import runs_of, value_of
from circuit_claims.edges.scores import edge_scores
from circuit_claims.prompts.ioi import Population
from circuit_claims.tasks.ioi.task import IOI

N = 8


@pytest.fixture(scope="module")
def found(mini) -> EdgeDiscovery:
    ioi = IOI(subject=mini, seed=0, chunk=N, population=Population(names=mini.names), prepend_bos=False)
    return EdgeDiscovery(ioi, ioi.on(half="discovery"))


@pytest.fixture(scope="module")
def some(found) -> np.ndarray:
    known = found.graph.no_edges()
    known[[3, 700, 1200, 1500, 1518]] = True
    return known


def test_circuits_are_found_on_the_other_half(found):
    names = {frozenset(prompt.answers) for prompt in found.found_on.prompts(24)}
    assert not names & {frozenset(prompt.answers) for prompt in found.task.prompts(60)}
    assert found.scores("EAP").n == 24 and found.scores("EAP") is found.scores("EAP")


def test_the_share_among_the_best_counts_known_edges(found, some):
    size = np.abs(edge_scores(found.task, "EAP", n=N).mean)
    best = np.argsort(-size)[: round(0.05 * len(size))]
    share = found.share_among_the_best(some, "EAP", 0.05).take(N)
    assert share.estimate == np.isin(np.flatnonzero(some), best).mean()
    chosen = found.graph.no_edges()
    chosen[best[:3]] = True
    assert found.share_among_the_best(chosen, "EAP", 0.05).take(N).estimate == 1


def test_scores_that_are_all_zero_find_nothing(found, some):
    """On a model in which nothing has an effect, all edges tie for the best place."""
    statistic = found.share_among_the_best(some, "EAP", 0.05).take(N).statistic
    assert statistic(np.zeros((1, len(some)))) == 0


def test_the_auroc_is_that_of_the_known_edges(found, some):
    scores = edge_scores(found.task, "EAP", n=N)
    assert found.auroc(some, "EAP").take(N).estimate == pytest.approx(auroc(scores, some).estimate)
    lead = found.auroc_lead(some, "EAP", "layer distance").take(N).estimate
    other = found.auroc(some, "layer distance").take(N).estimate
    assert lead == pytest.approx(auroc(scores, some).estimate - other)


def test_agreement_is_the_correlation_of_means_over_prompts(found):
    task, model = found.task, found.task.subject.transformer
    pairs = task.each_pair("ABC", N)
    effects = [exact_effects(model, *runs_of(task, *pair), value_of(task, pair[0])).cpu().numpy() for pair in pairs]
    exact = np.concatenate(effects).mean(0)
    scores = edge_scores(found.task, "EAP", n=N).mean
    kinds = np.array([edge.receiver.kind for edge in found.graph])
    for kind in ("q", "MLP"):
        expected = np.corrcoef(exact[kinds == kind], scores[kinds == kind])[0, 1]
        assert found.agreement("EAP", kind).take(N).estimate == pytest.approx(expected, abs=1e-4)
    order = np.concatenate([np.flatnonzero(kinds == kind) for kind in ("q", "k", "v", "MLP", "logits")])
    other = edge_scores(found.task, "EAP-IG inputs", n=N).mean
    expected = np.corrcoef(exact[order], other[order])[0, 1] - np.corrcoef(exact[order], scores[order])[0, 1]
    assert found.agreement_lead("EAP-IG inputs", "EAP").take(N).estimate == pytest.approx(expected, abs=1e-4)


def test_leads_are_differences_of_the_curves_own_numbers(found):
    one, other = (found.curve(method) for method in ("EAP-IG inputs", "random"))
    closer = found.closer("EAP-IG inputs", than="random").take(N).estimate
    assert closer == pytest.approx(other.cmd().take(N).estimate - one.cmd().take(N).estimate)
    lead = found.lead("EAP-IG inputs", "random", 0.1).take(N).estimate
    expected = [each.faithfulness_at(0.1).take(N).estimate for each in (one, other)]
    assert lead == pytest.approx(expected[0] - expected[1])


def test_both_areas_are_of_the_same_circuits(found):
    curve = EdgeCurve(found.task, found.scores("random"))
    grid = curve.metric().take(N)
    expected = sum(each(faithfulness_of(grid.estimate)) for each in (cpr_of, cmd_of))
    assert found.area_of_both("random").take(N).estimate == pytest.approx(expected)


def test_a_small_model_is_measured_whole_and_a_large_one_in_part(found, monkeypatch):
    kinds = np.array([edge.receiver.kind for edge in found.graph])
    assert (found.patched("k") == (kinds == "k")).all() and not found.large
    limits = [found.cmd("EAP").limit, found.auroc(found.patched("q"), "EAP").limit, found.agreement("EAP", "q").limit]
    assert limits == [JUDGED_ON, SCORED_ON, SCORED_ON]
    monkeypatch.setattr(discovery_task, "MANY_EDGES", 1_000)
    assert found.large and (found.patched("logits") == (kinds == "logits")).all()
    few = found.patched("k")
    readers = np.unique(found.graph.receiver_of_edge[few])
    assert len(readers) == 2 and (kinds[few] == "k").all()
    sizes = np.abs(found.scores("EAP-IG inputs").mean)
    sums = {i: sizes[found.graph.receiver_of_edge == i].sum() for i in np.unique(found.graph.receiver_of_edge[kinds == "k"])}
    assert set(readers) == set(sorted(sums, key=lambda i: -sums[i])[:2])
    limits = [found.cmd("EAP").limit, found.auroc(few, "EAP").limit, found.agreement("EAP", "q").limit]
    assert limits == [SCORED_ON, SCORED_ON, FEW]


def test_a_figure_shows_the_largest_scores_alone(found):
    """A report that drew all 32,491 edges of GPT-2's shape would not end."""
    figure = found.auroc(found.patched("q"), "EAP").take(N).figure(0.5, None)
    scores = edge_scores(found.task, "EAP", n=N)
    assert figure["rows"] == scores.to_frame(24).apply(lambda row: f"{row.sender} -> {row.receiver}", axis=1).tolist()
    assert np.allclose(np.array(figure["values"])[:, 0], scores.to_frame(24).score)
    assert len(found.agreement("EAP", "q").take(N).figure(0.5, None)["rows"]) == 24
