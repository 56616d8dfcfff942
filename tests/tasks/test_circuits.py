"""Circuits against slow, plain twins on the embedded model: identities that hold on any weights, hooks, and a plain search."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.ioi import half_of
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations import circuits
from circuit_claims.tasks.operations.ablation import ABLATIONS
from circuit_claims.tasks.operations.circuits import Circuits
from circuit_claims.tasks.operations.knockouts import KnockedOut, knocked_out_values
from circuit_claims.untested import Untested
from tests.support import plain_twins
from tests.support.plain_twins import all_heads, alone, plain_difference, plain_knock_out, z_name

N = 6
C = frozenset(
    {
        (Head(0, 4), "END"),
        (Head(0, 4), "S2"),
        (Head(1, 2), "S1+1"),
        (Head(2, 6), "S2"),
        (Head(3, 0), "END"),
        (Head(3, 3), "END"),
        (Head(3, 4), "END"),
        (Head(3, 5), "S2"),
    }
)
K = frozenset({(Head(0, 4), "S2"), (Head(3, 3), "END")})
V = (Head(3, 4), "END")


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    return plain_twins.task(mini, bos=request.param)


@pytest.fixture(scope="module")
def without_bos(mini: Subject) -> IOI:
    return plain_twins.task(mini, bos=False)


def values(measurement: Measurement, n: int = N) -> np.ndarray:
    return measurement.take(n).values


def number(measurement: Measurement, n: int = N) -> float:
    """The estimate of a number that is read off a grid."""
    taken = measurement.take(n)
    return float(taken.statistic(taken.grid.estimate))


def by_hand(ioi: IOI, *args, n: int = N, **kwargs) -> np.ndarray:
    return np.array([plain_knock_out(ioi, prompt, *args, **kwargs) for prompt in ioi.prompts(n)])


# Identities


@pytest.mark.parametrize("by", ABLATIONS)
def test_a_circuit_of_all_heads_at_all_positions_is_the_model(ioi, by):
    at_end = frozenset((head, "END") for head in all_heads(ioi))
    whole = values(ioi.logit_difference())
    for circuit in (
        ioi.circuit([(head, None) for head in all_heads(ioi)], by=by),
        ioi.circuit(at_end, by=by, everywhere=True),
    ):
        assert values(circuit.value()) == pytest.approx(whole, abs=1e-4)
        assert circuit.faithfulness().take(N).estimate == pytest.approx(1, abs=1e-4)
        assert values(circuit.gap()) == pytest.approx(0, abs=1e-4)
        assert values(circuit.incompleteness(K)) == pytest.approx(0, abs=1e-4), "nor do M \\ K and C \\ K differ"
    assert np.abs(values(ioi.circuit(at_end, by=by).value()) - whole).max() > 1e-2, "at END alone it is not"


@pytest.mark.parametrize("by", ABLATIONS)
def test_a_circuit_without_all_its_nodes_is_the_empty_circuit(ioi, by):
    empty = values(ioi.circuit([], by=by).value())
    assert values(ioi.circuit(C, by=by).without(C).value()) == pytest.approx(empty, abs=1e-5)
    everywhere = ioi.circuit(C, by=by, everywhere=True)
    assert values(everywhere.without(everywhere.nodes).value()) == pytest.approx(empty, abs=1e-5)
    but_one = values(ioi.circuit(C, by=by).without(C - {V}).value())
    assert np.abs(but_one - empty).max() > 1e-4, "one node that stays is seen"


@pytest.mark.parametrize("by", ABLATIONS)
def test_the_empty_circuit_is_everything_ablated_by_hooks(ioi, by):
    """Whole activations replaced, with no talk of nodes: zeros, the frame's mean, or the prompt's own ABC version."""
    expected = []
    for prompt in ioi.prompts(N):
        other = plain_twins.reference_means(ioi, prompt, 16)
        if by == "resample":
            other = plain_twins.outputs(ioi, alone(ioi, prompt.changed("ABC")))
        new = [torch.zeros_like(z) if by == "zero" else z for z in (other[z_name(layer)] for layer in range(4))]
        hooks = [(z_name(layer), lambda z, hook, new=new[layer]: new[None]) for layer in range(4)]
        expected.append(plain_difference(ioi, alone(ioi, prompt), hooks))
    assert values(ioi.circuit([], by=by).value()) == pytest.approx(expected, abs=1e-4)


def test_removing_what_the_circuit_has_not_changes_the_model_and_not_the_circuit(ioi):
    outside = frozenset({(Head(2, 3), "END"), (Head(0, 4), "S1+1")})
    circuit = ioi.circuit(C)
    assert (values(circuit.without(outside).value()) == values(circuit.value())).all()
    gap, incompleteness = values(circuit.gap()), values(circuit.incompleteness(outside))
    moved = values(ioi.without(outside).value()) - values(ioi.logit_difference())
    assert incompleteness == pytest.approx(gap + moved, abs=1e-5)
    assert np.abs(moved).max() > 1e-4


# Against hooks


@pytest.mark.parametrize(("by", "size"), [("mean", 16), ("mean", 2), ("zero", 16), ("resample", 16)])
def test_circuit_and_model_without_nodes_are_those_of_hooks(ioi, by, size):
    """F(C), F(C \\ K) and F(M \\ K); the mean over as many prompts in the model as in the circuit, or K is not the same."""
    circuit = ioi.circuit(C, by=by, reference_size=size)
    how = {"by": by, "size": size}
    alone_, without = by_hand(ioi, kept=C, **how), by_hand(ioi, K, kept=C, **how)
    model = by_hand(ioi, K, **how)
    assert values(circuit.value()) == pytest.approx(alone_, abs=1e-4)
    assert values(circuit.without(K).value()) == pytest.approx(without, abs=1e-4)
    assert values(circuit.incompleteness(K)) == pytest.approx(model - without, abs=1e-4)
    assert values(ioi.without(K, by=by, reference_size=size).value()) == pytest.approx(model, abs=1e-4)
    assert np.abs(alone_ - without).max() > 1e-2 and np.abs(model - without).max() > 1e-2


def test_heads_kept_everywhere_are_kept_everywhere(ioi):
    circuit = ioi.circuit(C, everywhere=True)
    kept = {(head, None) for head, _ in C}
    assert values(circuit.value()) == pytest.approx(by_hand(ioi, kept=kept), abs=1e-4)
    # A node that is removed goes at its own position alone, in circuit and model alike.
    assert values(circuit.without(K).value()) == pytest.approx(by_hand(ioi, K, kept=kept), abs=1e-4)
    assert np.abs(values(circuit.value()) - values(ioi.circuit(C).value())).max() > 1e-2
    assert circuit.value().take(1).quantity != ioi.circuit(C).value().take(1).quantity


def test_a_changed_story_has_its_circuit_under_the_change(without_bos):
    changed = without_bos.changed("neutral prefix")
    got = changed.circuit(C, reference_size=2).without(K).value()
    assert values(got, 3) == pytest.approx(by_hand(changed, K, kept=C, size=2, n=3), abs=1e-4)


def test_the_two_faithfulnesses_are_the_ratio_of_means_and_the_mean_of_ratios(ioi):
    circuit, model = by_hand(ioi, kept=C), np.array([plain_difference(ioi, alone(ioi, p)) for p in ioi.prompts(N)])
    ratio_of_means, mean_of_ratios = circuit.mean() / model.mean(), (circuit / model).mean()
    assert abs(ratio_of_means - mean_of_ratios) > 1e-3, "prompts on which the two are one"
    it = ioi.circuit(C)
    faithfulness, ratios = it.faithfulness().take(N), it.mean_of_ratios().take(N)
    assert faithfulness.estimate == pytest.approx(ratio_of_means, abs=1e-4)
    assert faithfulness.weights == pytest.approx(model, abs=1e-4)
    assert ratios.estimate == pytest.approx(mean_of_ratios, abs=1e-3)
    assert ratios.weights is None and ratios.values == pytest.approx(circuit / model, abs=1e-3)
    assert faithfulness.distribution and ratios.distribution
    assert number(it.ratio_bias()) == pytest.approx(mean_of_ratios - ratio_of_means, abs=1e-3)
    assert it.ratio_bias().take(N).whole.values == pytest.approx(model, abs=1e-4)


def test_gap_lead_and_size_are_arithmetic_on_the_same_prompts(ioi):
    circuit, other, model = ioi.circuit(C), ioi.circuit(C - K), values(ioi.logit_difference())
    of_circuit, of_other = values(circuit.value()), values(other.value())
    assert values(circuit.gap()) == pytest.approx(model - of_circuit, abs=1e-6)
    for gap in (circuit.gap(), circuit.incompleteness(K), circuit.incompleteness_size(K)):
        assert (gap.take(N).whole.values == model).all(), "a gap presupposes that the model has a logit difference"
    lead = circuit.lead_over(other).take(N)
    assert lead.estimate == pytest.approx((of_circuit - of_other).mean() / model.mean(), abs=1e-6)
    difference = values(circuit.incompleteness(K))
    size = number(circuit.incompleteness_size(K))
    assert size == pytest.approx(abs(difference.mean()), abs=1e-6)


def test_the_size_of_an_incompleteness_is_of_its_mean_and_not_the_mean_of_sizes(without_bos, monkeypatch):
    circuit, up_and_down = without_bos.circuit(C), np.array([3.0, -5.0, 3.0, -5.0])
    gap = replace(circuit.gap().take(4), values=up_and_down)
    made_up = Measurement(lambda n: gap, prepend_bos=False)
    monkeypatch.setattr(circuits.Circuit, "incompleteness", lambda self, removed, called="": made_up)
    assert number(circuit.incompleteness_size(K), 4) == 1


def test_a_contribution_is_what_the_node_adds_once_its_companions_are_gone(ioi):
    """F(C \\ K) − F(C \\ (K ∪ {v})) over F(M): positive for a node without which less is left; −1 turns it round."""
    circuit, model = ioi.circuit(C), np.array([plain_difference(ioi, alone(ioi, p)) for p in ioi.prompts(N)])
    added = by_hand(ioi, K, kept=C) - by_hand(ioi, K | {V}, kept=C)
    contribution = circuit.contribution(V, K).take(N)
    assert contribution.values == pytest.approx(added, abs=1e-4)
    assert contribution.estimate == pytest.approx(added.mean() / model.mean(), abs=1e-4)
    assert abs(contribution.estimate) > 0.01, "an effect whose sign is seen"
    assert circuit.contribution(V, K, sign=-1).take(N).estimate == pytest.approx(-contribution.estimate)
    # The node is no companion of its own, and without companions other numbers come out.
    assert (circuit.contribution(V, K | {V}).take(N).values == contribution.values).all()
    assert np.abs(circuit.contribution(V, ()).take(N).values - contribution.values).max() > 1e-3


def test_the_spread_over_ablations_is_the_largest_minus_the_smallest(ioi):
    faithfulness = [ioi.circuit(C, by=by).faithfulness().take(N).estimate for by in ABLATIONS]
    assert number(ioi.ablation_spread(C)) == pytest.approx(max(faithfulness) - min(faithfulness), abs=1e-5)
    assert max(faithfulness) - min(faithfulness) > 1e-2


def test_settings_in_one_batch_are_what_each_is_by_itself(ioi):
    """Knock-outs that enter at other layers and positions, kept circuits and MLPs, in one pass of the engine."""
    settings = [
        ioi.without(K),
        ioi.circuit(C).setting(),
        KnockedOut(ioi),
        ioi.circuit(C, by="zero").setting(K),
        ioi.ablate_mlps([1, 3]),
        ioi.circuit([], by="resample").setting(),
        KnockedOut(ioi, frozenset({V}), frozenset(C), (2,), reference_size=2),
        ioi.ablate([Head(3, 7)], at="END"),
    ]
    with torch.inference_mode():
        for batch in ioi.batches(ioi.prompts(N)):
            together = knocked_out_values(ioi, batch, settings)
            apart = np.stack([knocked_out_values(ioi, batch, [setting])[0] for setting in settings])
            assert together == pytest.approx(apart, abs=1e-4)
            assert (np.abs(apart[:, None] - apart[None]).max(-1) + np.eye(len(settings)) > 1e-4).all(), "all of them differ"


# Greedy and random sets


def plain_search(ioi: IOI, nodes, by: str, size: int, steps: int, candidates: int, prompts: int):
    """Algorithm 3, plainly: the best set on the way, its gap, and the gaps of the first step."""
    random = np.random.default_rng([ioi.seed, 3])  # the same choices of candidates
    other_half = ioi.on(half="discovery")
    chosen, best, best_gap, first = frozenset(), frozenset(), 0.0, []
    for _ in range(steps):
        left = sorted(nodes - chosen, key=str)
        gaps = {}
        for i in sorted(random.choice(len(left), min(candidates, len(left)), replace=False)):
            tried = chosen | {left[i]}
            how = {"by": by, "size": size, "n": prompts}
            difference = by_hand(other_half, tried, **how) - by_hand(other_half, tried, kept=nodes, **how)
            gaps[tried] = abs(difference.mean())
        # A node that changes nothing leaves a set as bad as before, but for the last bits, which each machine has its own of.
        chosen = next(tried for tried, gap in gaps.items() if gap > max(gaps.values()) - 1e-4)
        first = first or list(gaps.values())
        if gaps[chosen] > best_gap + 1e-4:
            best, best_gap = chosen, gaps[chosen]
    return best, best_gap, first


@pytest.mark.parametrize(("by", "size", "seed"), [("mean", 2, 1), ("zero", 16, 0)])
def test_the_greedy_search_is_the_plain_one(mini, by, size, seed):
    ioi = plain_twins.task(mini, bos=False, seed=seed)
    effort = {"steps": 3, "candidates": 3, "prompts": 3}
    circuit = ioi.circuit(C, by=by, reference_size=size)
    got = circuit.greedy_subset(**effort)
    best, gap, first = plain_search(ioi, C, by, size, **effort)
    assert got == best and got <= C
    assert gap >= max(first)
    there = replace(circuit, task=ioi.on(half="discovery"))
    assert number(there.incompleteness_size(got), 3) == pytest.approx(gap, abs=1e-4)


def test_the_greedy_search_looks_at_the_discovery_half_alone(without_bos, monkeypatch):
    seen = []

    def spy(task, batch, settings):
        seen.extend(batch.prompts)
        return knocked_out_values(task, batch, settings)

    monkeypatch.setattr(circuits, "knocked_out_values", spy)
    with torch.inference_mode():
        without_bos.circuit(C).greedy_subset(steps=1, candidates=2, prompts=7)
    assert len(seen) == 7
    assert {half_of(*prompt.answers) for prompt in seen} == {"discovery"}
    assert {half_of(*prompt.answers) for prompt in without_bos.prompts(7)} == {"verdict"}


def searched_with_gaps(ioi: Circuits, monkeypatch, gap_of, nodes=C, **effort):
    """A greedy search in a world in which M \\ K scores 0 and C \\ K what `gap_of` says of K."""

    def made_up(task, batch, settings):
        return np.array([[0.0 if s.kept is None else gap_of(s.removed)] * len(batch.prompts) for s in settings])

    monkeypatch.setattr(circuits, "knocked_out_values", made_up)
    fresh = replace(ioi, store=SessionStore())
    return fresh.circuit(nodes).greedy_subset(**{"steps": 8, "candidates": 8, "prompts": 2} | effort)


def test_the_search_keeps_the_best_set_on_its_way_whatever_the_gaps_sign(without_bos, monkeypatch):
    order = sorted(C, key=str)

    def gap_of(removed):
        """The first nodes one after the other are worth most: down to −3 with two of them, and less with more."""
        if removed != frozenset(order[: len(removed)]):
            return 0.1
        return {1: 1.0, 2: -3.0, 3: 2.0}.get(len(removed), 0.5)

    assert searched_with_gaps(without_bos, monkeypatch, gap_of) == frozenset(order[:2])
    assert searched_with_gaps(without_bos, monkeypatch, gap_of, steps=1) == frozenset(order[:1])


def test_the_search_finds_nothing_where_circuit_and_model_agree_and_ends_with_the_nodes(without_bos, monkeypatch):
    assert searched_with_gaps(without_bos, monkeypatch, lambda removed: 0.0) == frozenset()
    assert searched_with_gaps(without_bos, monkeypatch, lambda removed: float(len(removed)), nodes=K) == K


def test_a_search_is_made_once_for_the_same_circuit_and_prompts_and_again_for_others(without_bos, monkeypatch):
    searches = []
    monkeypatch.setattr(circuits.Circuit, "_search", lambda self, task, *effort: searches.append(task.about) or K)
    fresh = replace(without_bos, store=SessionStore())
    for _ in range(2):
        fresh.circuit(C).greedy_subset()
    assert len(searches) == 1
    fresh.circuit(C - K).greedy_subset()
    fresh.circuit(C, by="zero").greedy_subset()
    fresh.circuit(C, reference_size=2).greedy_subset()
    fresh.changed("neutral prefix").circuit(C).greedy_subset()
    fresh.on(templates=[0]).circuit(C).greedy_subset()
    replace(fresh, prepend_bos=True).circuit(C).greedy_subset()
    fresh.circuit(C).greedy_subset(steps=2)
    assert len(searches) == 8


def test_greedy_claims_are_measured_on_the_storys_own_prompts(without_bos, monkeypatch):
    monkeypatch.setattr(circuits.Circuit, "greedy_subset", lambda self: K)
    circuit = without_bos.circuit(C)
    gap = by_hand(without_bos, K) - by_hand(without_bos, K, kept=C)
    assert number(circuit.greedy_incompleteness()) == pytest.approx(abs(gap.mean()), abs=1e-4)
    random = [abs(values(circuit.incompleteness(subset)).mean()) for subset in circuit.random_subsets(3, without_bos.seed)]
    lead = number(circuit.greedy_lead_over_random(count=3))
    assert lead == pytest.approx(abs(gap.mean()) - np.mean(random), abs=1e-4)
    assert circuit.greedy_lead_over_random().take(N).whole.values == pytest.approx(values(without_bos.baseline()))


def test_random_subsets_are_reproducible_and_hold_each_node_half_of_the_time(without_bos):
    circuit = without_bos.circuit(C)
    subsets = circuit.random_subsets(400, 5)
    random, nodes = np.random.default_rng(5), sorted(C, key=str)  # sets are in another order in every process
    for subset in subsets[:9]:
        draws = random.random(len(nodes))
        assert subset == {node for node, draw in zip(nodes, draws, strict=True) if draw < 0.5}
    assert subsets[:9] == circuit.random_subsets(9, 5) != circuit.random_subsets(9, 6)
    assert all(subset <= C for subset in subsets)
    for node in C:
        assert 0.4 < np.mean([node in subset for subset in subsets]) < 0.6


def test_random_nodes_have_the_same_roles_and_none_of_the_circuits_heads(without_bos):
    for seed in range(20):
        ioi = replace(without_bos, seed=seed)
        drawn = ioi.random_nodes_like(C)
        assert sorted(role for _, role in drawn) == sorted(role for _, role in C)
        assert not {head for head, _ in drawn} & {head for head, _ in C}
        assert {head for head, _ in drawn} <= set(all_heads(ioi))
        assert drawn == ioi.random_nodes_like(C)
    assert len({replace(without_bos, seed=seed).random_nodes_like(C) for seed in range(20)}) > 15


def test_random_nodes_run_out(without_bos):
    all_but_one = all_heads(without_bos)[:-1]
    nodes = [(head, "END") for head in all_but_one]
    with pytest.raises(Untested, match="nearly all heads"):
        without_bos.random_nodes_like(nodes)
    (drawn,) = without_bos.random_nodes_like([(all_but_one[0], None)])
    assert drawn[1] is None and drawn[0] != all_but_one[0]
