"""Losses on random tokens, knock-outs and path patching there, against the bridge's own passes, one sequence at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.measure.store import SessionStore
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.induction.repeated_tokens import SEQUENCES
from circuit_claims.tasks.induction.task import REFERENCE_SIZE, Induction
from circuit_claims.untested import Untested
from tests.support.plain_twins import z_name

#: mini's head that attends one token back, and two that find what came after.
BACK, INDUCTION = Head(2, 3), (Head(3, 4), Head(3, 5))
LENGTH, LOOKED_AT = 7, (0, 9, 31)


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def task(mini: Subject, request: pytest.FixtureRequest) -> Induction:
    return Induction(subject=mini, seed=0, prepend_bos=request.param, length=LENGTH)


def hooked_losses(task: Induction, tokens: torch.Tensor, hooks=()) -> list[float]:
    """The loss of every token but the first (and BOS), one after the other."""
    with torch.inference_mode():
        logits = task.subject.bridge.run_with_hooks(tokens[None], fwd_hooks=list(hooks), prepend_bos=False)[0].double()
    first = int(task.prepend_bos)
    return [float(-logits[i - 1].log_softmax(-1)[tokens[i]]) for i in range(first + 1, len(tokens))]


def cache_of(task: Induction, tokens: torch.Tensor):
    with torch.inference_mode():
        return task.subject.bridge.run_with_cache(tokens[None], prepend_bos=False)[1]


def setting(layer: int, heads, value):
    """A hook that sets heads' outputs at all positions of one sequence to `value`, `[pos, head, d_head]`."""

    def hook(z, hook):
        z = z.clone()
        for head in heads:
            z[0, :, head] = value[:, head]
        return z

    return z_name(layer), hook


def test_losses_are_those_of_the_bridge(task):
    tokens = task._tokens()
    before, at, after = (m.take(SEQUENCES).values for m in (task.loss_before(), task.loss_at_repeat(), task.loss_after()))
    for i in LOOKED_AT:
        losses = hooked_losses(task, tokens[i])
        assert len(losses) == 2 * LENGTH - 1
        assert before[i] == pytest.approx(np.mean(losses[: LENGTH - 1]), abs=1e-4)
        assert at[i] == pytest.approx(losses[LENGTH - 1], abs=1e-4)
        assert after[i] == pytest.approx(np.mean(losses[LENGTH:]), abs=1e-4)
    assert task.drop().take(SEQUENCES).values == pytest.approx(before - after)
    assert task.halved().take(SEQUENCES).values == pytest.approx(before / 2 - after)
    assert before.mean() > after.mean() + 5, "mini foresees what comes again"


def test_the_curve_is_the_loss_by_position(task):
    drawn = task.loss_after().take(4).drawn
    (curve,), losses = drawn["curves"], task._losses()
    assert len(drawn["x"]) == len(curve["values"]) == 2 * LENGTH - 1
    assert curve["values"] == pytest.approx(losses.mean(0), rel=1e-3, abs=1e-4)
    assert all(low < value < high for low, value, high in zip(curve["low"], curve["values"], curve["high"], strict=True))
    assert drawn["x"][drawn["marks"][0]["x"]] == str(LENGTH), "the first token that is said again"


def test_the_reference_repeats_nothing(task):
    """Means by plain loops over the sequences that they are said to be taken over."""
    tokens = task._draw(2023, (REFERENCE_SIZE, 2 * LENGTH))
    assert not (tokens[:, :LENGTH] == tokens[:, LENGTH:]).all(1).any()
    bos = [torch.tensor([task.subject.tokenizer.bos_token_id])] if task.prepend_bos else []
    total = 0.0
    for sequence in tokens:
        cache = cache_of(task, torch.cat([*bos, sequence]))
        total = total + torch.stack([cache[z_name(layer)][0] for layer in range(4)])
    assert task.reference_means() == pytest.approx(total / REFERENCE_SIZE, abs=1e-4)


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_knock_outs_are_hooks_on_z(task, by):
    heads = (BACK, *INDUCTION)
    ablated = task.ablate(heads, by=by)
    rise, tokens = ablated.change().take(SEQUENCES).values, task._tokens()
    means = task.reference_means()
    for i in LOOKED_AT:
        value = means if by == "mean" else torch.zeros_like(means)
        hooks = [setting(2, [3], value[2]), setting(3, [4, 5], value[3])]
        under, untouched = hooked_losses(task, tokens[i], hooks), hooked_losses(task, tokens[i])
        expected = np.mean(under[LENGTH:]) - np.mean(untouched[LENGTH:])
        assert rise[i] == pytest.approx(expected, abs=1e-4)
    share = ablated.share().take(SEQUENCES)
    assert share.values == pytest.approx(rise / task.drop().take(SEQUENCES).values)
    assert share.whole is not None and share.drawn["curves"][1]["label"] == "changed"
    assert rise.mean() > 0.05


def test_other_heads_stand_in_for_each_sequence(task):
    ablated, tokens = task.ablate([BACK, Head(1, 1)], by="zero"), task._tokens()
    rise = ablated.change(at_random=True).take(SEQUENCES).values
    sets = [task.others_at_random([BACK, Head(1, 1)], i) for i in range(SEQUENCES)]
    assert len(set(sets)) > 5 and all(sorted(head.layer for head in heads) == [1, 2] for heads in sets)
    assert not {BACK, Head(1, 1)} & {head for heads in sets for head in heads}
    for i in LOOKED_AT:
        nothing = torch.zeros_like(task.reference_means()[0])
        under = hooked_losses(task, tokens[i], [setting(h.layer, [h.head], nothing) for h in sets[i]])
        expected = np.mean(under[LENGTH:]) - np.mean(hooked_losses(task, tokens[i])[LENGTH:])
        assert rise[i] == pytest.approx(expected, abs=1e-4)
    over = ablated.share_over_chance().take(SEQUENCES)
    drop = task.drop().take(SEQUENCES).values
    assert over.values == pytest.approx((ablated.change().take(SEQUENCES).values - rise) / drop)
    assert len(over.drawn["curves"]) == 3


def test_too_few_others_are_no_comparison(task):
    with pytest.raises(Untested, match="layer 3 has 3 heads besides"):
        task.others_at_random([Head(3, i) for i in range(5)], 0)
    with pytest.raises(ValueError, match="unknown ablation 'median': use mean or zero"):
        task.ablate([BACK], by="median")


def four_passes(task: Induction, i: int, senders, receivers):
    """Passes A, B and C of path patching into keys, with whole forward passes: each receiver's keys, `[pos, d_head]`."""
    tokens, others = task._tokens()[i], task._tokens(2024)[i]
    a, b = cache_of(task, tokens), cache_of(task, others)
    keys, hooks = {}, []
    for layer in range(4):
        z = a[z_name(layer)][0].clone()
        for sender in senders:
            if sender.layer == layer:
                z[:, sender.head] = b[z_name(layer)][0, :, sender.head]
        hooks.append(setting(layer, range(8), z))

    def recording(layer):
        def hook(k, hook):
            keys[layer] = k[0].clone()

        return f"blocks.{layer}.attn.hook_k", hook

    hooked_losses(task, tokens, [*hooks, *(recording(layer) for layer in range(4))])
    return {head: keys[head.layer][:, head.head] for head in receivers if head.layer > min(s.layer for s in senders)}


def with_keys(keys, seen=None):
    def putting(layer):
        def hook(k, hook):
            k = k.clone()
            for head, value in keys.items():
                if head.layer == layer:
                    k[0, :, head.head] = value
            return k

        return f"blocks.{layer}.attn.hook_k", hook

    def looking(layer):
        def hook(pattern, hook):
            seen[layer] = pattern[0]

        return f"blocks.{layer}.attn.hook_pattern", hook

    layers = {head.layer for head in keys}
    return [putting(layer) for layer in layers] + ([looking(layer) for layer in layers] if seen is not None else [])


def plain_induction(task: Induction, pattern) -> float:
    start = int(task.prepend_bos)
    return float(np.mean([float(pattern[start + LENGTH + j, start + j + 1]) for j in range(LENGTH)]))


def test_paths_into_keys_are_four_plain_passes(task):
    senders, receivers = (BACK, Head(1, 3)), (*INDUCTION, Head(2, 6))
    keys = task.keys(senders, of=receivers)
    rise = keys.change().take(SEQUENCES).values
    for i in LOOKED_AT:
        found = four_passes(task, i, senders, receivers)
        untouched, under = (hooked_losses(task, task._tokens()[i], with_keys(k)) for k in ({}, found))
        assert rise[i] == pytest.approx(np.mean(under[LENGTH:]) - np.mean(untouched[LENGTH:]), abs=1e-4)
        cache = cache_of(task, task._tokens()[i])
        for head in receivers:
            seen = {}
            hooked_losses(task, task._tokens()[i], with_keys({head: found[head]}, seen))
            before = plain_induction(task, cache[f"blocks.{head.layer}.attn.hook_pattern"][0, head.head])
            lost = keys.score_lost(head).take(SEQUENCES)
            assert lost.values[i] == pytest.approx(before - plain_induction(task, seen[head.layer][head.head]), abs=1e-5)
            assert lost.weights[i] == pytest.approx(before, abs=1e-5)
    assert keys.score_lost(INDUCTION[0]).take(SEQUENCES).estimate > 0.1


def test_other_senders_stand_in_for_each_sequence(task):
    keys = task.keys([BACK], of=INDUCTION)
    rise = keys.change(at_random=True).take(SEQUENCES).values
    over = keys.score_lost_over_chance(INDUCTION[0]).take(SEQUENCES)
    own = keys.score_lost(INDUCTION[0]).take(SEQUENCES)
    for i in LOOKED_AT:
        senders = task.others_at_random([BACK], i)
        found = four_passes(task, i, senders, INDUCTION)
        untouched, under = (hooked_losses(task, task._tokens()[i], with_keys(k)) for k in ({}, found))
        assert rise[i] == pytest.approx(np.mean(under[LENGTH:]) - np.mean(untouched[LENGTH:]), abs=1e-4)
        seen = {}
        hooked_losses(task, task._tokens()[i], with_keys({INDUCTION[0]: found[INDUCTION[0]]}, seen))
        lost = own.weights[i] - plain_induction(task, seen[3][INDUCTION[0].head])
        assert over.values[i] == pytest.approx(own.values[i] - lost, abs=1e-5)


def test_a_path_that_cannot_be_is_untested(task):
    with pytest.raises(Untested, match="none of L3H0 comes before any of L2H1, L3H4"):
        task.keys([Head(3, 0)], of=[Head(2, 1), Head(3, 4)])
    assert task.keys([BACK], of=[Head(1, 0), Head(3, 4)]).receivers == (Head(3, 4),)


def test_variants_of_one_story_are_measured_apart(task):
    here = task.ablate([BACK]).change().take(1).values
    for change in ({"length": 9}, {"seed": 3}, {"prepend_bos": not task.prepend_bos}):
        other = replace(task, **change)
        assert abs(other.ablate([BACK]).change().take(1).values - here) > 1e-5
        fresh = replace(other, store=SessionStore())
        assert other.loss_after().take(3).values == pytest.approx(fresh.loss_after().take(3).values)


def test_noise_foresees_nothing(task):
    """Its loss does not halve, so that nothing that presupposes so can hold."""
    noise = replace(task, subject=Subject(prepare(Settings(name="random:mini"))), store=SessionStore())
    assert noise.halved().take(SEQUENCES).values.max() < 0
    assert noise.ablate([BACK]).share().take(SEQUENCES).whole.values.max() < 0
