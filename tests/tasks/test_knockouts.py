"""Knock-outs of the task against slow, plain twins on the embedded model: reference prompts drawn and averaged by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.ablation import ABLATIONS
from circuit_claims.tasks.operations.knockouts import KnockedOut
from circuit_claims.tasks.operations.reference_means import REFERENCE_SIZE, reference_means
from circuit_claims.untested import Untested
from tests.support import plain_twins
from tests.support.plain_twins import all_heads, alone, plain_knock_out

N = 6
#: Heads of several layers, at one role's position, at another's, and everywhere.
NODES = frozenset({(Head(0, 4), "S2"), (Head(0, 4), "END"), (Head(1, 2), "S1+1"), (Head(2, 6), None), (Head(3, 3), "END")})


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    return plain_twins.task(mini, bos=request.param)


def by_hand(ioi: IOI, *args, **kwargs) -> list[float]:
    return [plain_knock_out(ioi, prompt, *args, **kwargs) for prompt in ioi.prompts(N)]


def of(ioi: IOI, **what) -> np.ndarray:
    try:
        return KnockedOut(ioi, **what).value().take(N).values
    except Untested as error:  # which would skip the test
        raise AssertionError("there are enough reference prompts") from error


def test_the_prompts_are_one_of_each_frame(ioi):
    """What the tests below stand on: two templates of one length, so that a batch mixes them, and a third of another."""
    prompts = ioi.prompts(N)
    assert len({(prompt.template, prompt.order) for prompt in prompts}) == 6
    lengths = {prompt.template: alone(ioi, prompt).tokens.shape[1] for prompt in prompts}
    assert lengths[0] == lengths[8] != lengths[7]
    assert alone(ioi, prompts[0]).tokens[0, 0] == ioi.subject.tokenizer.bos_token_id or not ioi.prepend_bos


@pytest.mark.parametrize("size", [16, 2])
@pytest.mark.parametrize("removed", [NODES, {(Head(2, 6), None)}, {(Head(2, 6), "END")}], ids=["nodes", "head", "node"])
def test_mean_ablation_is_that_of_the_hand_made_case(ioi, removed, size):
    got = of(ioi, removed=frozenset(removed), reference_size=size)
    assert got == pytest.approx(by_hand(ioi, removed, size=size), abs=1e-4)
    assert np.abs(got - ioi.logit_difference().take(N).values).max() > 1e-2, "the knock-out does nothing"


def test_mean_ablation_with_the_frame_of_others_would_be_another(ioi):
    """Not the other template of the same length, not the other order, and not another number of reference prompts."""
    prompts, got = ioi.prompts(N), of(ioi, removed=NODES)
    for i, prompt in enumerate(prompts):
        others = [
            plain_knock_out(ioi, prompt, NODES, like=other)
            for other in prompts
            if other is not prompt and alone(ioi, other).tokens.shape == alone(ioi, prompt).tokens.shape
        ]
        assert len(others) == (1 if prompt.template == 7 else 3)
        others.append(plain_knock_out(ioi, prompt, NODES, size=2))
        assert min(abs(got[i] - other) for other in others) > 1e-3


def test_templates_whose_tokens_lie_alike_have_each_its_own_mean(ioi):
    """8 and 9 have the same length, and names in the same places: only what is said between them differs."""
    alike = ioi.on(templates=[8, 9], orders=["ABBA"])
    first, second = alike.prompts(2)
    assert first.template != second.template
    assert alone(alike, first).positions == alone(alike, second).positions
    got = KnockedOut(alike, NODES, reference_size=4).value().take(2).values
    own = [plain_knock_out(alike, prompt, NODES, size=4) for prompt in (first, second)]
    of_other = [plain_knock_out(alike, a, NODES, size=4, like=b) for a, b in ((first, second), (second, first))]
    assert got == pytest.approx(own, abs=1e-4)
    assert np.abs(np.subtract(own, of_other)).min() > 1e-3


@pytest.mark.parametrize("by", ["zero", "resample"])
@pytest.mark.parametrize("removed", [NODES, {(Head(2, 6), None)}], ids=["nodes", "head"])
def test_zero_and_resample_ablation_are_the_plain_ones(ioi, removed, by):
    got = of(ioi, removed=frozenset(removed), by=by)
    assert got == pytest.approx(by_hand(ioi, removed, by=by), abs=1e-4)


def test_the_ablations_differ(ioi):
    """Each is told from the other two by its own result, and by its name."""
    mean, zero, resample = (of(ioi, removed=NODES, by=by) for by in ABLATIONS)
    for a, b in ((mean, zero), (mean, resample), (zero, resample)):
        assert np.abs(a - b).max() > 1e-2
    names = [KnockedOut(ioi, NODES, by=by).value().take(1).quantity for by in ABLATIONS]
    assert all(by in name for by, name in zip(ABLATIONS, names, strict=True))


@pytest.mark.parametrize("by", ABLATIONS)
def test_mlps_are_knocked_out_at_all_positions(ioi, by):
    for layers in ([0], [1, 3]):
        got = ioi.ablate_mlps(layers, by=by).value().take(N).values
        assert got == pytest.approx(by_hand(ioi, mlps=layers, by=by), abs=1e-4)
        assert np.abs(got - ioi.logit_difference().take(N).values).max() > 1e-2, "the knock-out does nothing"


@pytest.mark.parametrize("by", ABLATIONS)
def test_heads_and_mlps_go_together(ioi, by):
    kept = NODES | {(Head(0, 1), None)}
    got = of(ioi, removed=frozenset({(Head(0, 4), "END")}), kept=kept, mlps=(2,), by=by)
    assert got == pytest.approx(by_hand(ioi, {(Head(0, 4), "END")}, kept=kept, mlps=[2], by=by), abs=1e-4)


def test_ablate_and_without_are_the_knock_outs_of_their_nodes(ioi):
    heads = [Head(2, 6), Head(3, 3)]
    pairs = [
        (ioi.ablate(heads), {(head, None) for head in heads}),
        (ioi.ablate(heads, at="S2", by="zero"), {(head, "S2") for head in heads}),
        (ioi.without(NODES, by="resample"), NODES),
    ]
    for knocked_out, nodes in pairs:
        expected = of(ioi, removed=frozenset(nodes), by=knocked_out.by)
        assert (knocked_out.value().take(N).values == expected).all()
    here, elsewhere = (ioi.ablate(heads, at=at).value().take(N).values for at in ("END", "S2"))
    assert np.abs(here - elsewhere).max() > 1e-2


@pytest.mark.parametrize("by", ABLATIONS)
def test_a_changed_story_is_knocked_out_with_its_change(ioi, by):
    """An extra S stands in the reference prompts too, in a sentence that puts their tokens where the prompt has them."""
    changed = ioi.on(templates=[0, 12]).changed("extra S")
    lengths = {alone(changed, prompt).tokens.shape[1] for prompt in changed.prompts(N)}
    assert len(lengths) > 2, "sentences of several lengths"
    got = of(changed, removed=NODES, by=by, reference_size=4)
    assert got == pytest.approx(by_hand(changed, NODES, by=by, size=4), abs=1e-4)
    unchanged = of(replace(changed, change=""), removed=NODES, by=by, reference_size=4)
    assert np.abs(got - unchanged).max() > 1e-2


def test_a_neutral_prefix_shifts_the_roles_and_the_reference(ioi):
    changed = ioi.changed("neutral prefix")
    got = KnockedOut(changed, NODES, reference_size=4).value().take(3).values
    assert got == pytest.approx([plain_knock_out(changed, prompt, NODES, size=4) for prompt in changed.prompts(3)], abs=1e-4)


@torch.inference_mode()
def test_reference_means_are_those_of_each_prompts_own_frame(ioi):
    """Layer by layer, head by head and position by position, for heads' and MLPs' outputs."""
    for batch in ioi.batches(ioi.prompts(N)):
        z, mlp = (reference_means(ioi, batch, component) for component in ("z", "mlp_out"))
        for row, prompt in enumerate(batch.prompts):
            means = plain_twins.reference_means(ioi, prompt, REFERENCE_SIZE)
            for layer in range(4):
                assert (z[layer, row] - means[plain_twins.z_name(layer)]).abs().max() < 1e-4
                assert (mlp[layer, row] - means[plain_twins.mlp_name(layer)]).abs().max() < 1e-4


def test_prompts_that_are_a_subset_of_the_others_have_the_same_reference(ioi):
    """The reference is the frame's: neither which prompts are measured beside it nor the half of the pairs changes it."""
    prompt = ioi.prompts(N)[0]
    alone_in_it = ioi.on(templates=[prompt.template], orders=[prompt.order], half="discovery")
    (batch,) = alone_in_it.batches([prompt])
    value = float(KnockedOut(alone_in_it, NODES)._ablated(batch)[0])
    assert value == pytest.approx(of(ioi, removed=NODES)[0], abs=1e-4)


def test_losses_remaining_and_excess_speak_of_the_same_knock_outs(ioi):
    """The excess is what is lost together beyond the sum of what is lost apart: three knock-outs, each made by itself."""
    a, b = ioi.ablate([Head(3, 3)]), ioi.ablate([Head(3, 4)], at="END")
    both = ioi.without([(Head(3, 3), None), (Head(3, 4), "END")])
    whole = ioi.logit_difference().take(N).values
    losses = {name: whole - part.value().take(N).values for name, part in {"a": a, "b": b, "ab": both}.items()}
    assert both.change().take(N).values == pytest.approx(losses["ab"], abs=1e-6)
    assert both.remaining().take(N).estimate == pytest.approx(1 - losses["ab"].mean() / whole.mean(), abs=1e-6)
    excess = both.excess_over([a, b]).take(N).values
    assert excess == pytest.approx(losses["ab"] - losses["a"] - losses["b"], abs=1e-6)
    assert np.abs(excess).max() > 1e-3, "heads that act on each other"


def test_one_knock_out_exceeds_itself_by_nothing_and_nothing_by_its_loss(ioi):
    one = ioi.ablate([Head(3, 3)])
    assert one.excess_over([one]).take(N).values == pytest.approx(0, abs=1e-6)
    assert (one.excess_over([]).take(N).values == one.change().take(N).values).all()


def test_what_differs_in_anything_is_measured_by_itself(ioi):
    """The session's store keeps knock-outs apart by nodes, what is kept, MLPs, kind and reference, whatever they are called."""
    nodes, more = frozenset({(Head(2, 6), None)}), frozenset({(Head(2, 6), "END")})
    settings = [
        {"removed": nodes},
        {"removed": more},
        {"removed": more, "kept": NODES},
        {"kept": NODES},
        {"removed": nodes, "mlps": (1,)},
        {"removed": nodes, "by": "zero"},
        {"removed": nodes, "by": "resample"},
        {"removed": nodes, "reference_size": 3},
    ]
    values = [of(ioi, **setting, called="the same name") for setting in settings]
    for i, first in enumerate(values):
        for second in values[:i]:
            assert np.abs(first - second).max() > 1e-4
    assert (of(ioi, **settings[0]) == of(ioi, **settings[0], called="another name")).all()


def test_nothing_knocked_out_is_the_model(ioi):
    whole = ioi.logit_difference().take(N).values
    assert of(ioi) == pytest.approx(whole, abs=1e-4)
    everything = frozenset((head, None) for head in all_heads(ioi))
    assert of(ioi, kept=everything) == pytest.approx(whole, abs=1e-4)


def test_a_reference_that_cannot_be_had_says_so(ioi, monkeypatch):
    with pytest.raises(ValueError, match="at least one reference prompt"):
        KnockedOut(ioi, NODES, reference_size=0)
    with pytest.raises(ValueError, match="resample"):
        KnockedOut(ioi, NODES, by="median")  # pyright: ignore[reportArgumentType]  # wrong on purpose
    # Fillers that leave no other prompt with its tokens in these places.
    monkeypatch.setattr(Population, "of_the_form_of", lambda population, prompt: replace(population, templates=(7,)))
    fresh = replace(ioi.on(templates=[8]), store=SessionStore())
    with pytest.raises(Untested, match="too few reference prompts"):
        fresh.without(NODES).value().take(1)
