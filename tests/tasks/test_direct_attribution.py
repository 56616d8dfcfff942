"""Direct attribution against the bridge's own activations and weights, one prompt at a time, and TransformerLens's caches."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from circuit_claims.cards.find import find_card
from circuit_claims.discovery.chapters import Chapter, direct
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.direct_statistics import between_rows, points
from circuit_claims.untested import Untested
from tests.support import plain_twins
from tests.support.other_architectures import load, only_hooks, save_as_opt, save_tiny_decoder
from tests.support.plain_twins import all_heads, alone, mlp_name, plain_cache, plain_difference, put, z_name
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

ROOT = Path(__file__).parents[2]
N = 5
#: One of another layer than the last, so that others can react; one of the last.
HEADS = [Head(1, 2), Head(3, 5)]


def tiny(folder, mode: str) -> Subject:
    """Random weights with large value biases, which are no head's own: what mini's small ones could hide."""
    from safetensors.torch import load_file, save_file

    save_tiny_gpt2(folder / "tiny", n_layer=4, n_head=8, n_embd=64)
    state = load_file(folder / "tiny" / "model.safetensors")
    for name, weight in state.items():
        if name.endswith("c_attn.bias"):
            state[name] = weight + torch.cat([torch.zeros(128), torch.linspace(-1, 1, 64)])
    save_file(state, folder / "tiny" / "model.safetensors", metadata={"format": "pt"})
    card = save_tiny_card(folder / "card.toml", n_layer=4, n_head=8)
    return Subject(prepare(Settings(name=str(folder / "tiny"), card=str(card), mode=mode)))


@pytest.fixture(scope="module", params=["mini", "mini, raw", "tiny", "tiny, raw"])
def ioi(mini: Subject, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> IOI:
    """Processed weights without BOS, and raw ones, whose norms and value biases are their own, with BOS."""
    name, _, mode = request.param.partition(", ")
    mode = mode or "processed"
    if name == "tiny":
        return plain_twins.task(tiny(tmp_path_factory.mktemp("tiny"), mode), bos=mode == "raw")
    subject = mini if mode == "processed" else Subject(prepare(Settings(name="mini", mode="raw")))
    return plain_twins.task(subject, bos=mode == "raw")


def looks(ioi: IOI, zeroed: list[Head] | None = None) -> list[tuple]:
    """Each prompt by itself with all activations of its pass, in which heads may write nothing but their bias at END."""
    found = []
    for prompt in ioi.prompts(N):
        batch = alone(ioi, prompt)
        if not zeroed:
            found.append((batch, plain_cache(ioi, batch)))
            continue
        bridge, last, cache = ioi.subject.bridge, batch.tokens.shape[1] - 1, {}
        bias = {layer: value_bias(bridge, layer).expand(last + 1, -1, -1) for layer, _ in zeroed}
        edits = [put(z_name(layer), [(last, head)], bias[layer]) for layer, head in zeroed]
        streams = [f"blocks.{layer}.hook_resid_{where}" for layer in range(4) for where in ("pre", "post")]
        names = [*streams, *(name(layer) for layer in range(4) for name in (z_name, mlp_name))]
        plain_difference(ioi, batch, [*edits, *(keep(cache, name) for name in names)])
        found.append((batch, cache))
    return found


def keep(seen: dict, name: str):
    """A hook that keeps an activation, as the hooks before it have left it."""

    def hook(activation, hook):
        seen[name] = activation.clone()

    return name, hook


def by_hand(ioi: IOI, look: tuple, part: torch.Tensor, *, to: str = "logit difference", scaled: bool = True) -> float:
    """One part of the stream at END along the names, with the last stream's scale, from the bridge's weights alone."""
    batch, cache = look
    bridge, (io, s) = ioi.subject.bridge, batch.answers[0]
    stream = cache[f"blocks.{bridge.cfg.n_layers - 1}.hook_resid_post"][0, -1]
    scale = (stream.var(unbiased=False) + bridge.cfg.eps).sqrt() if scaled else 1.0
    gain = bridge.ln_final.weight if getattr(bridge.ln_final, "weight", None) is not None else 1.0
    other = bridge.W_U[:, s] if to == "logit difference" else bridge.W_U.mean(1)
    return float(((part - part.mean()) / scale * gain) @ (bridge.W_U[:, io] - other))


def value_bias(bridge, layer: int) -> torch.Tensor:
    """Of all heads: the values' own, and what the layer norm's makes of it."""
    bias = getattr(bridge.blocks[layer].ln1, "bias", None)
    return bridge.b_V[layer].detach() + (0 if bias is None else torch.einsum("m,hmd->hd", bias, bridge.W_V[layer]).detach())


def head_out(ioi: IOI, look: tuple, head: Head) -> torch.Tensor:
    """What a head writes at END of what it reads: without its value bias."""
    bridge, (layer, index) = ioi.subject.bridge, head
    return (look[1][z_name(layer)][0, -1, index] - value_bias(bridge, layer)[index]) @ bridge.W_O[layer][index]


@pytest.mark.parametrize("way", [{}, {"to": "IO"}, {"to": "IO", "scaled": False}], ids=["LD", "IO", "IO unscaled"])
@torch.inference_mode()
def test_every_head_and_layer_is_attributed_what_it_writes(ioi, way):
    heads, layers = ioi.direct_attribution(**way).heads().take(N), ioi.direct_attribution(**way).layers().take(N)
    for i, look in enumerate(looks(ioi)):
        for head in all_heads(ioi):
            assert heads.values[i][head] == pytest.approx(by_hand(ioi, look, head_out(ioi, look, head), **way), abs=1e-4)
        for layer in range(4):
            pre, post = (look[1][f"blocks.{layer}.hook_resid_{where}"][0, -1] for where in ("pre", "post"))
            mlp = look[1][mlp_name(layer)][0, -1]
            attention = post - pre - mlp
            expected = [by_hand(ioi, look, part, **way) for part in (attention, mlp)]
            assert layers.values[i, layer] == pytest.approx(expected, abs=1e-4)
    assert np.abs(heads.values).max() > 0.1 and heads.estimate.std() > 1e-2


@torch.inference_mode()
def test_all_parts_and_the_constant_sum_to_the_logit_difference(ioi):
    """So do embedding, heads, what each attention layer writes on any prompt (its bias and its heads'), and MLPs."""
    attribution, whole = ioi.direct_attribution(), ioi.logit_difference().take(N).values
    parts, constant = attribution.parts().take(N).values[:, :, 0], attribution.constant().take(N).values
    assert parts.sum(1) + constant == pytest.approx(whole, abs=1e-4)
    heads, layers = attribution.heads().take(N).values, attribution.layers().take(N).values
    for i, look in enumerate(looks(ioi)):
        bridge = ioi.subject.bridge
        always = [
            bridge.b_O[layer] + torch.einsum("hd,hdm->m", value_bias(bridge, layer), bridge.W_O[layer]) for layer in range(4)
        ]
        assert heads[i].sum(1) + [by_hand(ioi, look, bias) for bias in always] == pytest.approx(layers[i, :, 0], abs=1e-4)
    assert np.abs(heads.sum((1, 2)) - whole).max() > 1e-2, "heads alone do not"
    exchanged = ioi.logit_difference().take(N).values * -1
    assert np.abs(parts.sum(1) + constant - exchanged).max() > 0.1


@torch.inference_mode()
def test_the_accumulated_stream_is_the_stream(ioi):
    grid = ioi.direct_attribution().accumulated().take(N)
    assert list(grid.row_labels) == points(4) and len(points(4)) == 9
    for i, look in enumerate(looks(ioi)):
        streams = []
        for layer in range(4):
            pre, post = (look[1][f"blocks.{layer}.hook_resid_{where}"][0, -1] for where in ("pre", "post"))
            streams += [pre, post - look[1][mlp_name(layer)][0, -1]]
        expected = [by_hand(ioi, look, stream) for stream in [*streams, post]]
        assert grid.values[i, :, 0] == pytest.approx(expected, abs=1e-4)
    marked = ioi.direct_attribution().at_point("3_mid").take(N)
    assert marked.statistic(marked.grid.estimate) == pytest.approx(grid.estimate[7, 0])
    assert marked.grid.figure()["curves"][0]["values"] == pytest.approx(grid.estimate[:, 0])
    assert marked.grid.figure()["marks"] == [{"x": 7, "label": "3_mid"}]
    with pytest.raises(ValueError, match="no '4_mid' in this model: name one of 0_pre"):
        ioi.direct_attribution().at_point("4_mid")
    part = ioi.direct_attribution().of_part("L3 MLP").take(N)
    assert part.statistic(part.grid.estimate) == pytest.approx(ioi.direct_attribution().layers().take(N).estimate[3, 1])


@pytest.mark.parametrize("zeroed", [HEADS[:1], HEADS], ids=["one", "two"])
@torch.inference_mode()
def test_without_heads_everything_after_them_is_as_if_they_had_written_nothing(ioi, zeroed):
    """A pass with hooks that leave a head its value bias at END: what is attributed, the scale, what is left."""
    attribution, before, after = ioi.direct_attribution(without=zeroed), looks(ioi), looks(ioi, zeroed)
    heads, layers = attribution.heads().take(N).values, attribution.layers().take(N).values
    for i, look in enumerate(after):
        for head in all_heads(ioi):
            assert heads[i][head] == pytest.approx(by_hand(ioi, look, head_out(ioi, look, head)), abs=1e-4)
        mlps = [by_hand(ioi, look, look[1][mlp_name(layer)][0, -1]) for layer in range(4)]
        assert layers[i, :, 1] == pytest.approx(mlps, abs=1e-4)
    for head in zeroed:
        assert np.abs(heads[(slice(None), *head)]).max() < 1e-6

    def last(look):
        return look[1]["blocks.3.hook_resid_post"][0, -1]

    def scale(look):
        return float((last(look).var(unbiased=False) + ioi.subject.bridge.cfg.eps).sqrt())

    ratios = [scale(a) / scale(b) for a, b in zip(before, after, strict=True)]
    assert attribution.scale_ratio().take(N).values == pytest.approx(ratios, abs=1e-4)
    left = [by_hand(ioi, look, last(look)) for look in after] + ioi.direct_attribution().constant().take(N).values
    assert attribution.value().take(N).values == pytest.approx(left, abs=1e-4)
    growth = attribution.growth_over(ioi.direct_attribution()).take(N).values
    assert growth == pytest.approx(heads - ioi.direct_attribution().heads().take(N).values)
    others = [head for head in all_heads(ioi) if head.layer > 1 and head not in zeroed]
    assert max(np.abs(growth[(slice(None), *head)]).max() for head in others) > 1e-3, "later heads react"
    assert max(np.abs(ratio - 1) for ratio in ratios) > 1e-3


def test_what_is_lost_is_compared_with_what_was_written(ioi):
    """By zero, from the attributions themselves; by mean, from the plain knock-out; ratios of means, not means of ratios."""
    whole, head = ioi.logit_difference().take(N).values, HEADS[:1]
    written = ioi.direct_attribution().of_heads(head).take(N).values
    left = {
        "zero": ioi.direct_attribution(without=head).value(),
        "mean": ioi.ablate(head, at="END").value(),
    }
    for by, measured in left.items():
        lost = ioi.lost_share(head, by=by).take(N)
        share = float(lost.statistic(lost.grid.estimate))
        expected = (whole - measured.take(N).values).mean() / written.mean()
        assert share == pytest.approx(np.clip(expected, -10, 10) if written.mean() > 0 else 10, abs=1e-4), by
        assert lost.whole.estimate == pytest.approx(whole.mean()), "and presupposes a logit difference"
    expected = ioi.direct_attribution().expected_without(HEADS).take(N).values
    both = ioi.direct_attribution().of_heads(HEADS).take(N).values
    assert expected == pytest.approx(whole - both, abs=1e-4)
    alone_each = sum(ioi.direct_attribution().of_heads([one]).take(N).values for one in HEADS)
    assert both == pytest.approx(alone_each)


def test_raw_and_processed_weights_give_the_same_attributions(tmp_path):
    """Value biases that are folded, a gain that is, a mean that is taken out of the unembedding: none of them moves a share."""
    for mode in ("raw", "processed"):
        (tmp_path / mode).mkdir()
    raw, processed = (plain_twins.task(tiny(tmp_path / mode, mode), bos=False) for mode in ("raw", "processed"))
    ways: list[dict[str, Any]] = [{}, {"without": HEADS}, {"to": "IO", "scaled": False}]
    for way in ways:
        a, b = (task.direct_attribution(**way) for task in (raw, processed))
        for one, other in ((a.heads(), b.heads()), (a.layers(), b.layers())):
            difference = one.take(N).values - other.take(N).values
            assert np.abs(difference).max() < 1e-3
        assert a.value().take(N).values == pytest.approx(b.value().take(N).values, abs=1e-3)
    # What TransformerLens's stack of heads would say of raw weights is another number, of the value biases' size.
    bridge, look = raw.subject.bridge, looks(raw)[0]
    bias = torch.einsum("hd,hdm->hm", value_bias(bridge, 3), bridge.W_O[3]).detach()
    assert max(abs(by_hand(raw, look, part)) for part in bias) > 0.05


@torch.inference_mode()
def test_the_numbers_are_those_of_transformer_lenss_cache(mini):
    """accumulated_resid, decompose_resid, stack_head_results, logit_attrs, on processed weights as its demos do."""
    ioi = plain_twins.task(mini, bos=True)
    heads, layers = ioi.direct_attribution().heads().take(N).values, ioi.direct_attribution().layers().take(N).values
    accumulated = ioi.direct_attribution().accumulated().take(N).values
    for i, prompt in enumerate(ioi.prompts(N)):
        batch = alone(ioi, prompt)
        cache = plain_cache(ioi, batch)
        io, s = batch.answers[0]

        def attributed(stack, io=io, s=s, cache=cache):
            found = cache.logit_attrs(stack, tokens=io[None], incorrect_tokens=s[None], pos_slice=-1, has_batch_dim=True)
            return found[:, 0].tolist()

        assert heads[i].ravel() == pytest.approx(attributed(cache.stack_head_results(layer=-1, pos_slice=-1)), abs=1e-4)
        stack, labels = cache.decompose_resid(layer=-1, pos_slice=-1, return_labels=True)
        by_label = dict(zip(labels, attributed(stack), strict=True))
        expected = [[by_label[f"{layer}_attn_out"], by_label[f"{layer}_mlp_out"]] for layer in range(4)]
        assert layers[i] == pytest.approx(np.array(expected), abs=1e-4)
        stack, labels = cache.accumulated_resid(layer=-1, incl_mid=True, pos_slice=-1, return_labels=True)
        assert labels == points(4)
        assert accumulated[i, :, 0] == pytest.approx(attributed(stack), abs=1e-4)


def test_the_correlation_with_patching_is_numpys_over_all_heads(ioi):
    attribution = ioi.direct_attribution(to="IO", scaled=False)
    measured = ioi.patching_correlation(attribution).take(N)
    written, restored = attribution.heads().take(N), ioi.head_sweep(at="END").take(N)
    expected = np.corrcoef(written.estimate.ravel(), restored.estimate.ravel())[0, 1]
    whole = restored.weights.mean()  # a negative whole would turn the shares, and not what they are shares of
    assert measured.statistic(measured.grid.estimate) == pytest.approx(expected * np.sign(whole), abs=1e-6)
    figure = measured.grid.figure()
    assert figure["kind"] == "scatter" and len(figure["points"]) == 32
    named = {str(head) for head in ioi.subject.card.named_heads}
    assert {point["label"] for point in figure["points"]} - {""} == named
    assert [point["y"] for point in figure["points"]] == pytest.approx(written.estimate.ravel())
    assert [point["x"] for point in figure["points"]] == pytest.approx(restored.estimate.ravel())


def test_pearsons_r_is_numpys_for_every_resample():
    random = np.random.default_rng(0)
    rows = random.normal(size=(6, 2, 40)) * [[1.0], [30.0]] + [[5.0], [-2.0]]
    rows[:3, 1] += 20 * rows[:3, 0]
    assert between_rows(rows) == pytest.approx([np.corrcoef(*pair)[0, 1] for pair in rows])
    assert between_rows(np.stack([np.ones(5), np.arange(5.0)])) == 0


@torch.inference_mode()
def test_a_head_that_writes_nothing_is_attributed_nothing_and_no_longer_leads(mini):
    """A control: of mini with its strongest head's output weights zeroed, what the claims say of that head is false."""
    ioi = plain_twins.task(Subject(prepare(Settings(name="mini"))), bos=False)
    cells = ioi.direct_attribution().heads().take(20).estimate
    top = Head(*map(int, np.unravel_index(cells.argmax(), cells.shape)))
    damaged = plain_twins.task(Subject(prepare(Settings(name="mini"))), bos=False)
    block = damaged.subject.transformer.weights().layers[top.layer]
    block.W_O[top.head * 16 : (top.head + 1) * 16] = 0
    grid = damaged.direct_attribution().heads().take(20)
    assert cells[top] > 0.5 and grid.estimate[top] == 0 and grid.estimate.argmax() != cells.argmax()


def test_an_unknown_target_is_refused(mini):
    with pytest.raises(ValueError, match="unknown target 'S': use logit difference or IO"):
        plain_twins.task(mini, bos=False).direct_attribution(to="S")  # pyright: ignore[reportArgumentType]  # wrong on purpose


@pytest.mark.parametrize("name", ["NeoX", "sequential NeoX", "Llama", "Qwen3", "OPT", "Phi"])
@torch.inference_mode()
def test_of_other_architectures_the_parts_sum_to_the_logit_difference_too(tmp_path, name):
    """With attention and MLP side by side or not, RMS norms, shared keys and values, and biases."""
    ioi = plain_twins.task(load(save_tiny_decoder(tmp_path / "model", name), "raw"), bos=False)
    attribution = ioi.direct_attribution()
    parts, constant = attribution.parts().take(N).values[:, :, 0], attribution.constant().take(N).values
    assert parts.sum(1) + constant == pytest.approx(ioi.logit_difference().take(N).values, abs=1e-4)
    heads, bridge = attribution.heads().take(N).values, ioi.subject.bridge
    batch = alone(ioi, ioi.prompts(1)[0])
    attention = attribution.layers().take(N).values[:, :, 0]
    # What heads do not write of an attention layer's output is the same on every prompt, but for the scale.
    cache = plain_cache(ioi, batch)
    for layer in range(bridge.cfg.n_layers):
        nothing = {layer: torch.zeros_like(cache[z_name(layer)][0])}
        places = [(p, h) for p in range(batch.tokens.shape[1]) for h in range(bridge.cfg.n_heads)]
        seen = {}
        out = f"blocks.{layer}.hook_attn_out"
        plain_difference(ioi, batch, [put(z_name(layer), places, nothing[layer]), keep(seen, out)])
        bias = seen[out][0, -1] + sum(
            ioi.subject.transformer.head_out(layer, ioi.value_bias(layer)[head], head) for head in range(bridge.cfg.n_heads)
        )
        final = ioi.subject.run(batch.tokens).resid[-1][:, -1]
        io, s = batch.answers[0]
        along = ioi.subject.transformer.frozen_norm(bias[None], final) @ (bridge.W_U[:, io] - bridge.W_U[:, s])
        assert heads[0, layer].sum() + float(along) == pytest.approx(attention[0, layer], abs=1e-4)


@torch.inference_mode()
def test_what_cannot_be_taken_apart_is_untested_with_the_reason(tmp_path, monkeypatch):
    """Logits that are capped after the final norm; heads behind a norm; through hooks a parallel MLP, without a head."""
    gemma = plain_twins.task(load(save_tiny_decoder(tmp_path / "gemma", "Gemma2"), "raw"), bos=False)
    with pytest.raises(Untested, match="are not linear in what its final norm gives"):
        gemma.direct_attribution().parts().take(N)
    olmo = plain_twins.task(load(save_tiny_decoder(tmp_path / "olmo", "Olmo2"), "raw"), bos=False)
    with pytest.raises(Untested):
        olmo.direct_attribution().heads().take(N)
    folder = save_tiny_decoder(tmp_path / "neox", "NeoX")
    without = plain_twins.task(load(folder, "raw"), bos=False).direct_attribution(without=[Head(0, 1)])
    assert abs(without.heads().take(N).values).max() > 1e-3
    only_hooks(monkeypatch)
    with pytest.raises(Untested, match="side by side"):
        plain_twins.task(load(folder, "raw"), bos=False).direct_attribution(without=[Head(0, 1)]).heads().take(N)


@pytest.mark.parametrize("mode", ["raw", "processed"])
def test_mini_written_as_an_opt_gives_the_same_attributions(mini, tmp_path, mode):
    from circuit_claims.models.folder import EMBEDDED

    opt = Subject(prepare(Settings(name=str(save_as_opt(EMBEDDED["mini"], tmp_path / "mini")), card="mini", mode=mode)))
    tasks = [IOI(s, seed=0, chunk=40, population=Population(names=mini.names), prepend_bos=False) for s in (mini, opt)]
    ways: list[dict[str, Any]] = [{}, {"without": HEADS}, {"to": "IO", "scaled": False}]
    for way in ways:
        ours, theirs = (task.direct_attribution(**way) for task in tasks)
        assert theirs.heads().take(8).values == pytest.approx(ours.heads().take(8).values, abs=1e-3)
        assert theirs.layers().take(8).values == pytest.approx(ours.layers().take(8).values, abs=1e-3)


def test_the_committed_chapter_of_the_embedded_model_is_what_discovery_finds(mini):
    """At the settings that it names, from the families of the card."""
    card = find_card("mini")
    circuit = replace(card, families={name: family for name, family in card.families.items() if not family.chapter})
    found = direct.find(Survey.of(mini, n=960, seed=0, prepend_bos=False), circuit)
    there = {name: family.heads for name, family in card.families.items() if family.chapter == "direct"}
    assert there == {name: family.heads for name, family in found.families.items()} and len(there) == 2
    values = {key: value for part in found.findings.values() for key, value in part.values.items()}
    tables = {key: table for part in found.findings.values() for key, table in part.tables.items()}
    assert len(values) == 3 and len(tables) == 2
    for key, value in values.items():
        assert card[key].value == pytest.approx(value.value, abs=0.011), key
        assert card[key].low == pytest.approx(value.value - (value.within or 0.0), abs=0.02), key
    for key, table in tables.items():
        committed = card.table(key)
        assert (committed.columns, committed.rows) == (table.columns, tuple(table.rows)), key
        np.testing.assert_allclose(committed.values, list(table.rows.values()), atol=0.02, err_msg=key)
    left_out = {key for part in found.findings.values() for key in part.left_out}
    assert left_out == {"attribution_fall_layer", "self_repair_lost_share"}


def test_of_a_model_without_the_task_the_chapter_says_nothing(tmp_path):
    subject = tiny(tmp_path, "processed")
    assert direct.find(Survey.of(subject, n=60, seed=0, prepend_bos=False), subject.card) == Chapter()


def test_every_number_that_the_claims_ask_for_is_published_and_looked_for_or_is_of_published_prompts():
    """All of it stands on GPT-2 small's card, and discovery knows what is not of prompts that somebody published."""
    asked: dict[str, set[str]] = {"values": set(), "tables": set(), "families": set()}
    patterns = {
        "values": r'card\["([^"]+)"\]',
        "tables": r'(?:card\.table\(|each_row\()"([^"]+)"',
        "families": r'(?:heads|family)\("([^"]+)"',
    }
    for path in sorted((ROOT / "claims" / "attribution").glob("test_direct_*.py")):
        for kind, pattern in patterns.items():
            asked[kind] |= set(re.findall(pattern, path.read_text(encoding="utf-8")))
    card, source = find_card("gpt2-small"), Path(direct.__file__).read_text(encoding="utf-8")
    assert len(asked["values"]) == 8 and len(asked["tables"]) == 7 and len(asked["families"]) == 6
    for name in asked["families"]:
        assert name in card.families and (not card.families[name].chapter or f'"{name}"' in source), name
    for kind in ("values", "tables"):
        for key in (name.replace(" ", "_") for name in asked[kind]):
            assert key in getattr(card, kind), key
            assert f'"{key}"' in source or key.startswith(("demo_", "first_prompt_")), key
