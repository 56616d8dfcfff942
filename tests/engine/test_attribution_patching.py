"""Attribution patching against autograd through the bridge, against finite differences, and where it is exact."""

import pytest
import torch

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import ATTRIBUTED, HEAD_SITES, Edit
from circuit_claims.engine.run import Run
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.conftest import HEADS, LAYERS
from tests.engine.test_engine import HOOKS
from tests.support.other_architectures import load, only_hooks, save_tiny_decoder
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

ANSWERS = torch.tensor([[7, 11], [11, 7], [30, 42], [5, 199], [64, 65]])


def subject_of(folder, **settings) -> Subject:
    card = save_tiny_card(folder.parent / "tiny.toml", n_layer=LAYERS, n_head=HEADS)
    return Subject(prepare(Settings(name=str(folder), card=str(card), **settings)))


def difference(model: Transformer, resid: torch.Tensor, answers: torch.Tensor = ANSWERS) -> torch.Tensor:
    logits = model.answer_logits(resid, answers)
    return logits[..., 0] - logits[..., 1]


def gradients_of_the_bridge(bridge, tokens: torch.Tensor, answers: torch.Tensor) -> dict[str, torch.Tensor]:
    """The slow twin: one prompt at a time, zeros that are added at every hook of the bridge, and their gradients."""
    found: dict[str, list[torch.Tensor]] = {}
    for row, (io, s) in zip(tokens, answers, strict=True):
        taps: dict[str, torch.Tensor] = {}

        def tap(name, taps=taps):
            def hook(activation, hook):
                taps[name] = torch.zeros_like(activation, requires_grad=True)
                return activation + taps[name]

            return name, hook

        names = [f"blocks.{layer}.{HOOKS[site]}" for layer in range(LAYERS) for site in ATTRIBUTED]
        logits = bridge.run_with_hooks(row[None], fwd_hooks=[tap(name) for name in names], prepend_bos=False)[0, -1]
        (logits[io] - logits[s]).backward()
        for name in names:
            gradient = taps[name].grad
            assert gradient is not None
            found.setdefault(name, []).append(gradient)
    return {name: torch.cat(rows) for name, rows in found.items()}


def test_attributions_are_gradients_through_the_bridge_times_the_change(tiny, pair):
    bridge, model = tiny
    clean, corrupted = pair
    found = model.attributions(model.run(clean), model.run(corrupted), ANSWERS)
    gradients = gradients_of_the_bridge(bridge, corrupted, ANSWERS)
    with torch.no_grad():
        (_, of_clean), (_, of_corrupted) = (bridge.run_with_cache(tokens, prepend_bos=False) for tokens in (clean, corrupted))
    for site in ATTRIBUTED:
        for layer in range(LAYERS):
            name = f"blocks.{layer}.{HOOKS[site]}"
            products = (gradients[name] * (of_clean[name] - of_corrupted[name])).sum(-1)
            expected = products.transpose(1, 2) if site == "pattern" else products
            assert found[site][:, layer].shape == expected.shape
            assert (found[site][:, layer] - expected).abs().max() < 1e-4, name
        assert found[site].abs().max() > 1e-2, f"nothing is attributed to {site}, so agreeing would mean nothing"


@pytest.mark.parametrize("site", ATTRIBUTED)
def test_an_attribution_is_the_slope_of_a_partial_patch(tmp_path, pair, site):
    """Finite differences in double precision, by the engine's own interventions: a ten-thousandth of the way and back."""
    subject = subject_of(save_tiny_gpt2(tmp_path / "tiny", n_layer=LAYERS, n_head=HEADS, n_embd=32), dtype="float64")
    model = subject.transformer
    assert isinstance(model, Transformer)
    clean, corrupted = (subject.run(tokens) for tokens in pair)
    found, step = model.attributions(clean, corrupted, ANSWERS)[site], 1e-4
    for layer in range(LAYERS):
        (of_clean, of_corrupted), edits = (inside(model, run, layer, site) for run in (clean, corrupted)), []
        for part in range(HEADS) if site in HEAD_SITES else [None]:
            chosen = ... if part is None else (slice(None), part) if site == "pattern" else (slice(None), slice(None), part)
            start, change = of_corrupted[chosen], of_clean[chosen] - of_corrupted[chosen]
            edits += [[Edit(layer, site, start + sign * step * change, part)] for sign in (1, -1)]
        there, back = difference(model, model.intervene(corrupted, edits)).view(-1, 2, len(ANSWERS)).unbind(1)
        slopes = (there - back).T / (2 * step)
        expected = found[:, layer].sum(1)
        assert (slopes - expected.view(slopes.shape)).abs().max() < 1e-5


def inside(model: Transformer, run: Run, layer: int, site: str) -> torch.Tensor:
    attention = model.attention(layer, run.resid[layer])
    others = {"resid_pre": run.resid[layer], "attn_out": attention.out}
    others["mlp_out"] = run.resid[layer + 1] - run.resid[layer] - attention.out
    return others[site] if site in others else getattr(attention, site)


class Linear(Transformer):
    """One in which norms only scale and MLPs have no nonlinearity: nothing but attention scores is no linear function."""

    def __init__(self, bridge) -> None:
        super().__init__(bridge)
        self.activation = lambda x: x

    def _normed(self, x, norm):
        return x * norm[0] + norm[1]


@torch.inference_mode()
def test_where_everything_after_a_patch_is_linear_the_estimate_is_exact(tiny, pair):
    bridge, _ = tiny
    with torch.inference_mode(False):
        model = Linear(bridge)
    clean, corrupted = (model.run(tokens) for tokens in pair)
    base, last = difference(model, corrupted.resid[-1][:, -1]), LAYERS - 1
    found = model.attributions(clean, corrupted, ANSWERS)
    for site in ("v", "pattern", "z", "attn_out", "mlp_out"):
        value = inside(model, clean, last, site)
        parts = range(HEADS) if site in HEAD_SITES else [None]
        values = [value if h is None else value[:, h] if site == "pattern" else value[:, :, h] for h in parts]
        edits = [[Edit(last, site, one, h)] for h, one in zip(parts, values, strict=True)]
        patched = difference(model, model.intervene(corrupted, edits)) - base
        scale = patched.abs().max()
        assert (found[site][:, last].sum(1).view(len(ANSWERS), -1).T - patched).abs().max() < 1e-4 * scale, site
    keys = inside(model, clean, last, "k")
    edits = [[Edit(last, "k", keys[:, :, h], h)] for h in range(HEADS)]
    patched = difference(model, model.intervene(corrupted, edits)) - base
    assert (found["k"][:, last].sum(1).T - patched).abs().max() > 1e-2 * patched.abs().max(), "a softmax is not linear"


def test_of_the_same_prompt_nothing_is_attributed(tiny, pair):
    _, model = tiny
    run = model.run(pair[0])
    assert all(value.abs().max() < 1e-5 for value in model.attributions(run, run, ANSWERS).values())


def test_processing_the_weights_changes_no_attribution(tmp_path, pair):
    """Norms folded and weights centred: what is written changes, and what is attributed to it does not, but for offsets."""
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=LAYERS, n_head=HEADS, n_embd=32)
    found = []
    for mode in ("raw", "processed"):
        model = subject_of(folder, mode=mode).transformer
        found.append(model.attributions(model.run(pair[0]), model.run(pair[1]), ANSWERS))
    for site in ATTRIBUTED:
        assert (found[0][site] - found[1][site]).abs().max() < 1e-4, site


def test_splitting_the_prompts_changes_nothing(tiny, pair):
    _, model = tiny
    runs = [model.run(tokens) for tokens in pair]
    at_once, one_by_one = (model.attributions(*runs, ANSWERS, memory=memory) for memory in (None, 1))
    assert all((at_once[site] - one_by_one[site]).abs().max() < 1e-5 for site in ATTRIBUTED)


@pytest.mark.parametrize("mode", ["raw", "processed"])
def test_gradients_pass_an_engine_that_was_made_while_a_claim_measured(tmp_path, pair, mode):
    """A subject makes its engine when it is first asked, which is mostly in inference mode."""
    subject = subject_of(save_tiny_gpt2(tmp_path / "tiny", n_layer=LAYERS, n_head=HEADS, n_embd=32), mode=mode)
    with torch.inference_mode():
        clean, corrupted = (subject.run(tokens.clone()) for tokens in pair)
        found = subject.transformer.attributions(clean, corrupted, ANSWERS.clone())
    assert found["q"].abs().max() > 1e-3


def test_through_hooks_there_are_no_gradients_and_the_reason_is_said(tmp_path, pair, monkeypatch):
    only_hooks(monkeypatch)
    subject = load(save_tiny_decoder(tmp_path / "model", "Llama"), "raw")
    clean, corrupted = (subject.run(tokens) for tokens in pair)
    with pytest.raises(Unsupported, match="GPT-2"):
        subject.transformer.attributions(clean, corrupted, ANSWERS)


@torch.inference_mode()
def test_with_the_norm_frozen_senders_add_up_to_the_receivers_attribution(tiny, pair):
    """What reaches a head is a sum over everything before it, so the attributions of the paths into it are parts of one.

    With the layer norm's scale frozen at its corrupted value, the paths from the embedding, every head and every MLP of earlier
    layers add up to what is attributed to the head's values once these, too, are taken with that scale.
    """
    _, model = tiny
    clean, corrupted = (model.run(tokens) for tokens in pair)
    receiver = Head(2, 1)
    with torch.inference_mode(False), torch.enable_grad():
        streams, stream, values = [], model.embed(pair[1]).requires_grad_(), []
        for layer in range(LAYERS):
            attention = model.attention(layer, stream)
            streams.append(stream)
            values.append(attention.v)
            mid = stream + attention.out
            stream = mid + model.mlp_out(layer, mid)
        (gradient,) = torch.autograd.grad(difference(model, stream[:, -1]).sum(), values[receiver.layer])
    gradient = gradient[:, :, receiver.head]
    block, d_head = model.blocks[receiver.layer], model.d_head
    first = (2 * HEADS + receiver.head) * d_head
    W_V = block.W_qkv[:, first : first + d_head]
    like = corrupted.resid[receiver.layer]
    scale = (like.var(-1, unbiased=False, keepdim=True) + model.eps).sqrt()

    def attributed(change: torch.Tensor) -> torch.Tensor:
        """What a change of the stream before the receiver's layer gives, through its values, with the scale as it is."""
        normed = (change - change.mean(-1, keepdim=True)) / scale * block.ln1[0]
        return (gradient * (normed @ W_V)).sum((1, 2))

    paths = [attributed(model.embed(pair[0]) - model.embed(pair[1]))]
    for layer in range(receiver.layer):
        (a, z), (b, y) = ((run.resid, model.attention(layer, run.resid[layer])) for run in (clean, corrupted))
        paths += [attributed(model.head_out(layer, z.z[:, :, h] - y.z[:, :, h], h)) for h in range(HEADS)]
        paths.append(attributed((a[layer + 1] - a[layer] - z.out) - (b[layer + 1] - b[layer] - y.out)))
    whole = attributed(clean.resid[receiver.layer] - corrupted.resid[receiver.layer])
    assert (sum(paths) - whole).abs().max() < 1e-4
    # Without freezing, the two differ by the clean scale over the corrupted one.
    unfrozen = model.attributions(clean, corrupted, ANSWERS)["v"][:, receiver.layer, :, receiver.head].sum(1)
    refrozen = (gradient * (values_at(model, clean, receiver, scale) - values_at(model, corrupted, receiver, scale))).sum(
        (1, 2)
    )
    assert (refrozen - whole).abs().max() < 1e-4
    assert (unfrozen - whole).abs().max() > 1e-3, "the norms do not differ, so freezing one would mean nothing"


def values_at(model: Transformer, run: Run, head: Head, scale: torch.Tensor) -> torch.Tensor:
    """A head's values with the layer norm's scale set, without the norm's own code."""
    block = model.blocks[head.layer]
    first = (2 * HEADS + head.head) * model.d_head
    stream = run.resid[head.layer]
    normed = (stream - stream.mean(-1, keepdim=True)) / scale * block.ln1[0] + block.ln1[1]
    return normed @ block.W_qkv[:, first : first + model.d_head] + block.b_qkv[first : first + model.d_head]
