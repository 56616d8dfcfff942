"""What is read inside the model on pairs: attention, the logit lens, direct attribution and attribution patching."""

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from tests.tasks.contrast.plain import Plain

FEW = 5
HEADS = (Head(1, 0), Head(3, 2))


@pytest.mark.parametrize(("which", "to"), [("known", "country"), ("unlike", "word")])
def test_attention_from_and_to_marks_is_the_plain_one(request, which, to):
    given = request.getfixturevalue(which)
    plain = Plain(given.subject)
    patterns = [
        plain.seen(prompt, ["blocks.1.attn.hook_pattern"])["blocks.1.attn.hook_pattern"] for prompt in given.prompts(FEW)
    ]
    for of, at in (("END", to), (to, to)):
        expected = [
            float(pattern[0, plain.place(prompt, of), plain.place(prompt, at)])
            for prompt, pattern in zip(given.prompts(FEW), patterns, strict=True)
        ]
        assert given.mean_attention([Head(1, 0)], to=at, of=of).take(FEW).values == pytest.approx(expected, abs=1e-6)
        assert given.attention_sweep(to=at, of=of).take(FEW).values[:, 1, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("which", ["known", "unlike"])
def test_the_logit_lens_is_the_plain_one(request, which):
    """The stream after each layer, through the bridge's own final norm and unembedding."""
    given = request.getfixturevalue(which)
    plain, first, above = Plain(given.subject), [], []
    for prompt in given.prompts(FEW):
        names = [f"blocks.{layer}.hook_resid_post" for layer in range(plain.layers)]
        streams, tops, likelier = plain.seen(prompt, names), [], []
        right, wrong = ([plain.token(word) for word in side] for side in (prompt.right, prompt.wrong))
        for name in names:
            with torch.inference_mode():
                p = plain.bridge.unembed(plain.bridge.ln_final(streams[name][None, -1:]))[0, -1].double().softmax(-1)
            tops.append(int(p.argmax()) in right)
            likelier.append(float(p[right].sum()) > float(p[wrong].sum()))
        first.append(tops.index(True) if any(tops) else plain.layers)
        above.append(sum(likelier))
    assert given.crossover_layer().take(FEW).values.tolist() == first
    assert given.layers_above_the_other().take(FEW).values.tolist() == above


@pytest.mark.parametrize("which", ["known", "unlike"])
def test_direct_attribution_adds_up_to_the_logit_difference(request, which):
    given = request.getfixturevalue(which)
    attribution = given.direct_attribution()
    parts, constant = attribution.parts().take(FEW).values.sum((1, 2)), attribution.constant().take(FEW).values
    plain = [Plain(given.subject).difference(prompt) for prompt in given.prompts(FEW)]
    assert parts + constant == pytest.approx(plain, abs=5e-6)


def test_direct_attribution_of_a_head_is_the_plain_one(unlike):
    """A head's output through W_O, the final norm's scale of the run, and the columns of all answers and foils."""
    plain, bridge = Plain(unlike.subject), unlike.subject.bridge
    found = unlike.direct_attribution().heads().take(FEW).values
    to_answer = unlike.direct_attribution(to="answer").heads().take(FEW).values
    for row, prompt in enumerate(unlike.prompts(FEW)):
        seen = plain.seen(prompt, ["blocks.3.attn.hook_z", "ln_final.hook_scale"])
        scale = seen["ln_final.hook_scale"][-1]
        out = seen["blocks.3.attn.hook_z"][-1, 2] @ bridge.W_O[3, 2]
        logits = ((out - out.mean()) / scale) @ bridge.W_U
        right, wrong = ([plain.token(word) for word in side] for side in (prompt.right, prompt.wrong))
        assert found[row, 3, 2] == pytest.approx(float(logits[right].mean() - logits[wrong].mean()), abs=1e-6)
        assert to_answer[row, 3, 2] == pytest.approx(float(logits[right].mean() - logits.mean()), abs=1e-6)


def test_attribution_patching_is_the_derivative_of_the_plain_pass(known):
    """A step of one part in a million from the corrupted activation towards the clean one."""
    plain, step, head = Plain(known.subject), 1e-5, Head(1, 3)
    name = f"blocks.{head.layer}.attn.hook_z"
    estimated = known.attribution_sweep().take(FEW).values[:, head.layer, head.head]
    for row, prompt in enumerate(known.prompts(FEW)):
        bad = prompt.changed("corrupted")
        good, before = (plain.seen(text, [name])[name][:, head.head] for text in (prompt, bad))
        ends = []
        for sign in (1, -1):

            def hook(activation, hook, sign=sign, moved=good - before, before=before):
                activation = activation.clone()
                activation[0, :, head.head] = before + sign * step * moved
                return activation

            ends.append(plain.difference(bad, [(name, hook)], of=prompt))
        assert estimated[row] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-5)


def test_attribution_of_lists_is_the_mean_over_answers_and_foils(unlike):
    """The estimate is linear in the logits that are compared."""
    model = unlike.subject.transformer
    tried = 0
    for batch in unlike.batches(unlike.prompts(9)):
        (other,) = unlike.batches([prompt.changed("corrupted") for prompt in batch.prompts])
        if other.tokens.shape != batch.tokens.shape:
            continue
        found = unlike.attributions(batch, other)
        plain = Plain(unlike.subject)
        for row, prompt in enumerate(batch.prompts):
            runs = [unlike.subject.run(it.tokens[[row]]) for it in (batch, other)]
            pairs = [(plain.token(a), plain.token(b)) for a in prompt.right for b in prompt.wrong]
            each = [model.attributions(*runs, torch.tensor([pair])) for pair in pairs]
            for site, values in found.items():
                mean = torch.stack([one[site][0] for one in each]).mean(0)
                assert torch.allclose(values[row].double(), mean.double(), atol=1e-7)
            tried += len(pairs) > 1
    assert tried >= 2


def test_patching_and_its_estimate_are_compared_on_as_many_pairs_as_there_are(known):
    assert known.attribution_agreement("output").limit == 30
    assert -1 <= known.attribution_correlation("resid_pre").take(FEW).estimate <= 1
    assert np.isfinite(known.patching_correlation(known.direct_attribution()).take(FEW).estimate)
    assert known.position_attribution_sweep().take(FEW).estimate.shape == (4, 5)
    assert known.residual_attribution_sweep().take(FEW).estimate.shape == (4, 2)
    assert np.isfinite(known.lost_share(HEADS).take(FEW).estimate)
    assert np.isfinite(known.path_sweep_without(HEADS[:1]).take(FEW).estimate).all()


def test_another_metric_has_no_estimate(known):
    with pytest.raises(
        ValueError, match="attribution patching estimates logit differences, and not the probability of the answer"
    ):
        known.judged_by("probability").attribution_sweep()
