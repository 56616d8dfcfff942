"""What the task measures, against slow and plain twins on the embedded model: one prompt at a time, through the bridge."""

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import (
    cell,
    earliest_layer_of_the_brightest,
    handover_layer,
    near_zero_share,
)
from circuit_claims.prompts.batch import make_batches
from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.roles import SWEPT_ROLES
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.reference_means import REFERENCE_SIZE

N = 6


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    """Two templates of different lengths, so that prompts are regrouped on their way."""
    population = Population(templates=(4, 7), names=mini.names)
    return IOI(subject=mini, seed=0, chunk=4, population=population, prepend_bos=request.param)


def alone(ioi: IOI, prompt):
    """One prompt as a batch of its own."""
    (batch,) = make_batches(ioi.subject.tokenizer, [prompt], prepend_bos=ioi.prepend_bos)
    return batch


def plain_logits(ioi: IOI, batch, hooks=()) -> torch.Tensor:
    """The slow twin's forward pass: the bridge's own, with plain hooks."""
    with torch.inference_mode():
        return ioi.subject.bridge.run_with_hooks(batch.tokens, fwd_hooks=list(hooks), prepend_bos=False)[0, -1]


def plain_difference(ioi: IOI, batch, hooks=(), answers=None) -> float:
    logits = plain_logits(ioi, batch, hooks)
    io, s = (batch if answers is None else answers).answers[0]
    return float(logits[io] - logits[s])


def plain_cache(ioi: IOI, batch):
    with torch.inference_mode():
        return ioi.subject.bridge.run_with_cache(batch.tokens, prepend_bos=False)[1]


def set_z(head: Head, value: torch.Tensor, position: int | None):
    def hook(z, hook):
        z = z.clone()
        if position is None:
            z[0, :, head.head] = value
        else:
            z[0, position, head.head] = value
        return z

    return f"blocks.{head.layer}.attn.hook_z", hook


def test_behaviour_is_what_the_bridge_says_prompt_by_prompt(ioi):
    prompts = ioi.prompts(N)
    batches = [alone(ioi, p) for p in prompts]
    logits = [plain_logits(ioi, b) for b in batches]
    difference = [float(x[b.answers[0, 0]] - x[b.answers[0, 1]]) for x, b in zip(logits, batches, strict=True)]
    probability = [float(x.softmax(-1)[b.answers[0, 0]]) for x, b in zip(logits, batches, strict=True)]
    first = [float(x.argmax() == b.answers[0, 0]) for x, b in zip(logits, batches, strict=True)]
    assert ioi.logit_difference().take(N).values == pytest.approx(difference, abs=1e-4)
    assert ioi.probability().take(N).values == pytest.approx(probability, abs=1e-5)
    assert ioi.answers_io().take(N).values.tolist() == first
    assert ioi.prefers_io().take(N).values.tolist() == [float(d > 0) for d in difference]
    assert ioi.prefers_s().take(N).values.tolist() == [float(d < 0) for d in difference]


def test_a_change_keeps_the_clean_labels(ioi):
    prompts = ioi.prompts(N)
    for change in ("name swap", "ABC", "S2 to IO", "random names", "neutral prefix", "distractor name"):
        expected = [plain_difference(ioi, alone(ioi, p.changed(change)), answers=alone(ioi, p)) for p in prompts]
        assert ioi.changed(change).logit_difference().take(N).values == pytest.approx(expected, abs=1e-4), change


def test_the_effect_of_a_change_is_paired(ioi):
    effect = ioi.effect_of("neutral prefix").take(N)
    with_, without = ioi.changed("neutral prefix").logit_difference().take(N).values, ioi.logit_difference().take(N).values
    assert effect.values == pytest.approx(with_ - without, abs=1e-5)
    assert effect.weights == pytest.approx(without, abs=1e-5)
    assert effect.estimate == pytest.approx((with_.mean() - without.mean()) / without.mean(), abs=1e-5)


@pytest.mark.parametrize("corruption", ["name swap", "ABC"])
def test_recovery_of_one_head_and_of_several_is_the_plain_one(ioi, corruption):
    heads = [Head(1, 2), Head(2, 6), Head(3, 2)]
    sweep = ioi.head_sweep(at="END", corruption=corruption).take(N)
    joint = ioi.patch(heads, at="END", corruption=corruption).recovery().take(N)
    for i, prompt in enumerate(ioi.prompts(N)):
        clean, corrupted = alone(ioi, prompt), alone(ioi, prompt.changed(corruption))
        cache, end = plain_cache(ioi, clean), int(clean.positions["END"][0])
        base = plain_difference(ioi, corrupted, answers=clean)
        whole = plain_difference(ioi, clean) - base
        hooks = [set_z(h, cache[f"blocks.{h.layer}.attn.hook_z"][0, end, h.head], end) for h in heads]
        for head, hook in zip(heads, hooks, strict=True):
            patched = plain_difference(ioi, corrupted, [hook], answers=clean) - base
            assert sweep.values[i][head] == pytest.approx(patched, abs=1e-4)
        assert joint.values[i] == pytest.approx(plain_difference(ioi, corrupted, hooks, answers=clean) - base, abs=1e-4)
        assert joint.weights[i] == sweep.weights[i] == pytest.approx(whole, abs=1e-4)


def test_the_residual_sweep_presupposes_the_answer_besides_the_change(ioi):
    answer, change = ioi.residual_sweep(corruption="S2 to IO").take(3).presupposed
    assert answer.values == pytest.approx(ioi.logit_difference().take(3).values)
    assert change.values == pytest.approx(ioi.baseline("S2 to IO").take(3).values, abs=1e-4)


def test_the_residual_sweep_is_the_plain_one(ioi):
    sweep = ioi.residual_sweep(corruption="name swap").take(3)
    for i, prompt in enumerate(ioi.prompts(3)):
        clean, corrupted = alone(ioi, prompt), alone(ioi, prompt.changed("name swap"))
        cache = plain_cache(ioi, clean)
        base = plain_difference(ioi, corrupted, answers=clean)
        for layer in range(4):
            for column, role in enumerate(SWEPT_ROLES):
                where = int(clean.positions[role][0])

                def hook(resid, hook, where=where, source=cache[f"blocks.{layer}.hook_resid_pre"]):
                    resid = resid.clone()
                    resid[0, where] = source[0, where]
                    return resid

                patched = plain_difference(ioi, corrupted, [(f"blocks.{layer}.hook_resid_pre", hook)], answers=clean)
                assert sweep.values[i, layer, column] == pytest.approx(patched - base, abs=1e-4)


def test_where_only_s2_differs_s2_before_the_first_layer_restores_everything(ioi):
    """An identity that holds on any weights, and its counterparts: END knows nothing yet, and IO is never wrong."""
    grid = ioi.residual_sweep(corruption="S2 to IO").take(N)
    assert grid.estimate[0, SWEPT_ROLES.index("S2")] == pytest.approx(1, abs=1e-4)
    assert grid.estimate[0, SWEPT_ROLES.index("END")] == pytest.approx(0, abs=1e-4)
    assert np.abs(grid.values[:, :, SWEPT_ROLES.index("IO")]).max() < 1e-4


@pytest.mark.parametrize("at", [None, "END"])
def test_mean_ablation_is_by_template_and_order_against_a_hand_made_case(ioi, at):
    """Two templates, two orders: each prompt's head is set to the average over p_ABC of *its own* frame, made here by hand."""
    head = Head(2, 6)
    got = ioi.ablate([head], by="mean", at=at).value().take(N).values
    other_frame = []
    for i, prompt in enumerate(ioi.prompts(N)):
        batch = alone(ioi, prompt)
        where = None if at is None else int(batch.positions[at][0])
        values = []
        for template in (prompt.template, 11 - prompt.template):  # 4 and 7 are each other's
            population = Population(templates=(template,), orders=(prompt.order,), names=ioi.population.names, half=None)
            total: torch.Tensor | float = 0.0
            for other in population.sample(REFERENCE_SIZE, ioi.seed + 1):
                total = (
                    total
                    + plain_cache(ioi, alone(ioi, other.changed("ABC")))[f"blocks.{head.layer}.attn.hook_z"][0, :, head.head]
                )
            values.append(total / REFERENCE_SIZE)
        mine = values[0] if where is None else values[0][where]
        assert got[i] == pytest.approx(plain_difference(ioi, batch, [set_z(head, mine, where)]), abs=1e-4)
        wrong = values[1][-1].expand_as(values[0]) if where is None else values[1][-1]
        other_frame.append(abs(got[i] - plain_difference(ioi, batch, [set_z(head, wrong, where)])))
    assert max(other_frame) > 1e-3, "with the other template's mean the result would be another"


def test_zero_and_resample_ablation_are_the_plain_ones(ioi):
    head = Head(2, 6)
    zero = ioi.ablate([head], by="zero").value().take(N).values
    resample = ioi.ablate([head], by="resample").value().take(N).values
    for i, prompt in enumerate(ioi.prompts(N)):
        batch = alone(ioi, prompt)
        other = plain_cache(ioi, alone(ioi, prompt.changed("ABC")))[f"blocks.{head.layer}.attn.hook_z"][0, :, head.head]
        assert zero[i] == pytest.approx(plain_difference(ioi, batch, [set_z(head, torch.zeros(()), None)]), abs=1e-4)
        assert resample[i] == pytest.approx(plain_difference(ioi, batch, [set_z(head, other, None)]), abs=1e-4)


def test_loss_and_remaining_speak_of_the_same_knock_out(ioi):
    ablated = ioi.ablate([Head(3, 2), Head(2, 6)], by="mean")
    whole, left = ioi.logit_difference().take(N), ablated.value().take(N)
    assert ablated.change().take(N).values == pytest.approx(whole.values - left.values, abs=1e-5)
    assert ablated.remaining().take(N).estimate == pytest.approx(left.estimate / whole.estimate, abs=1e-5)


def test_attention_is_the_bridges(ioi):
    head = Head(2, 6)
    mean = ioi.mean_attention([head, Head(3, 2)], to="IO").take(N).values
    preference = ioi.attention_preference(head, to="S1").take(N).values
    for i, prompt in enumerate(ioi.prompts(N)):
        batch, cache = alone(ioi, prompt), None
        cache = plain_cache(ioi, batch)
        end, io, s1 = (int(batch.positions[role][0]) for role in ("END", "IO", "S1"))
        rows = [cache[f"blocks.{layer}.attn.hook_pattern"][0, h, end] for layer, h in (head, (3, 2))]
        assert mean[i] == pytest.approx(float(rows[0][io] + rows[1][io]) / 2, abs=1e-5)
        others = [float(p) for j, p in enumerate(rows[0]) if j not in (0, s1)]
        assert preference[i] == pytest.approx(float(rows[0][s1]) - max(others), abs=1e-5)


def test_the_attention_sweep_is_the_bridges(ioi):
    grid = ioi.attention_sweep(to="IO").take(N)
    assert grid.weights is None
    for i, prompt in enumerate(ioi.prompts(N)):
        batch = alone(ioi, prompt)
        cache, end, io = plain_cache(ioi, batch), int(batch.positions["END"][0]), int(batch.positions["IO"][0])
        for layer in range(4):
            expected = cache[f"blocks.{layer}.attn.hook_pattern"][0, :, end, io].tolist()
            assert grid.values[i, layer] == pytest.approx(expected, abs=1e-5)


def test_looking_again_measures_only_what_is_new(ioi, monkeypatch):
    measurement = ioi.on(orders=["ABBA"]).logit_difference()
    first = measurement.take(4).values
    calls = []
    monkeypatch.setattr(
        Subject, "last_logits", lambda self, tokens: calls.append(len(tokens)) or torch.zeros(len(tokens), 5000)
    )
    again = measurement.take(8).values
    assert sum(calls) == 4, "the first four prompts were measured before"
    assert (again[:4] == first).all()


def test_published_prompts_are_exact_and_bring_their_own_bos(ioi):
    text = "When John and Mary went to the store, John gave a drink to"
    measurement = ioi.published([(text, "Mary", "John")], prepend_bos=True).logit_difference()
    samples = measurement.take(100)
    ids = ioi.subject.tokenizer(text, add_special_tokens=False).input_ids
    mary, john = (ioi.subject.tokenizer(" " + name, add_special_tokens=False).input_ids[0] for name in ("Mary", "John"))
    with torch.inference_mode():
        logits = ioi.subject.bridge(torch.tensor([[ioi.subject.tokenizer.bos_token_id, *ids]]), prepend_bos=False)[0, -1]
    assert samples.exact and samples.n == 1 and measurement.prepend_bos
    twice = ioi.published([(text, "Mary", "John"), (text, "Mary", "John")], prepend_bos=True).logit_difference()
    assert twice.take(2).exact and not twice.take(1).exact, "a look at some of them is no look at all of them"
    assert samples.values[0] == pytest.approx(float(logits[mary] - logits[john]), abs=1e-4)


def test_unknown_words_are_refused(ioi):
    with pytest.raises(ValueError, match="name swap"):
        ioi.patch([Head(0, 0)], corruption="upside down").recovery()
    with pytest.raises(ValueError, match="resample"):
        ioi.ablate([Head(0, 0)], by="median")
    with pytest.raises(KeyError, match="S1"):
        ioi.ablate([Head(0, 0)], at="S3").change().take(2)


def test_the_numbers_read_off_a_grid():
    grid = np.array([[0.0, 0.01, 0.0, 0.0, 0.9], [0.3, 0.0, 0.0, 0.95, 0.0], [0.0, 0.0, 0.0, 0.2, 0.8]])
    stacked = np.stack([grid, -grid])
    assert near_zero_share(0.05)(stacked).tolist() == [pytest.approx(10 / 15)] * 2
    assert earliest_layer_of_the_brightest(2)(grid) == 0
    assert earliest_layer_of_the_brightest(1)(grid) == 1
    assert cell(-1, "END")(grid) == 0.8 and cell(0, "IO")(grid) == 0.0
    assert handover_layer("S2", "END")(grid[1:]) == 1
    assert handover_layer("S2", "END")(-np.abs(grid) * np.array([0, 0, 0, 0, 1])) == 3


def test_a_claim_that_is_true_of_one_head_turns_false_of_another(mini):
    """The control: whichever head recovers most at END, another one recovers less than half of that, by the same measure."""
    ioi = IOI(subject=mini, seed=0, chunk=60, population=Population(names=mini.names), prepend_bos=False)
    means = ioi.head_sweep(at="END").take(60).estimate
    best, worst = (Head(*np.unravel_index(index, means.shape)) for index in (means.argmax(), np.abs(means).argmin()))
    high, low = (ioi.patch([head], at="END").recovery().take(60).estimate for head in (best, worst))
    assert high > 0.05 and low < high / 2


def test_a_corruption_on_top_of_an_addition_keeps_the_addition(ioi):
    """Sweeps run on changed prompts too: the clean side has the added sentence, and the corrupted side has it as well."""
    for change in ("neutral prefix", "distractor name"):
        grid = ioi.changed(change).residual_sweep(corruption="S2 to IO").take(4)
        assert grid.estimate[0, SWEPT_ROLES.index("S2")] == pytest.approx(1, abs=1e-4), change
        assert (ioi.residual_sweep(corruption="S2 to IO").take(4).values != grid.values).any()


def test_what_cannot_be_patched_says_so(ioi):
    with pytest.raises(ValueError, match="already changed"):
        ioi.changed("ABC").head_sweep().take(2)
    with pytest.raises(ValueError, match="drawn prompts"):
        ioi.published([("When John and Mary went, John gave to", "Mary", "John")], prepend_bos=False).head_sweep().take(1)
    with pytest.raises(ValueError, match="two sentences"):
        ioi.on(templates=[5]).changed("extra S")
