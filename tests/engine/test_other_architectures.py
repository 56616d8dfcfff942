"""Interventions on decoders that are not of GPT-2's shape, against slow and plain twins: whole forward passes with one hook."""

import pytest
import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.edits import HEAD_SITES, Edit
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.hooked.passes import HOOKS
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.fixtures.leak_guard import Leftovers
from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Subject
from tests.conftest import HEADS, LAYERS
from tests.engine.test_path_patching import (
    ALL,
    EVERY_HEAD,
    ONLY_END,
    SCATTERED,
    SCATTERED_AND_END,
    SETS,
    as_writes,
    at_end,
    plainly,
)
from tests.support.other_architectures import (
    TESTED,
    UNGROUPED,
    Decoder,
    cache_of,
    counted,
    edits_from,
    engine_of,
    forward_with,
    load,
    rows_through_mlps,
    save_tiny_decoder,
    ungrouped_copy,
)

#: All of them as they are, and these as TransformerLens processes them, too.
PROCESSED = ("NeoX", "Qwen3")
VARIANTS = [(name, "raw") for name in TESTED] + [(name, "processed") for name in PROCESSED]
#: Both ways of computing them.
ENGINES = {"modules": ModuleDecoder, "hooks": HookedDecoder}


@pytest.fixture(scope="module", params=VARIANTS, ids=" ".join)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Subject, Subject]:
    """A subject, and a twin in which every head has its own key and value."""
    name, mode = request.param
    folder = save_tiny_decoder(tmp_path_factory.mktemp("other") / "model", name)
    subject = load(folder, mode)
    assert isinstance(subject.transformer, ModuleDecoder)
    if name in UNGROUPED:
        return name, subject, subject
    return name, subject, load(ungrouped_copy(folder, folder.parent / "ungrouped"), mode)


@pytest.fixture(scope="module", params=ENGINES)
def decoder(request: pytest.FixtureRequest, loaded: tuple[str, Subject, Subject]) -> Decoder:
    return Decoder(*loaded, engine_of(loaded[1], ENGINES[request.param]))


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest):
    """No test leaves a hook, a module that is not itself, or changed weights."""
    if "decoder" not in request.fixturenames:
        yield
        return
    bridge = request.getfixturevalue("decoder").bridge
    bridge(torch.ones(1, 3, dtype=torch.long), prepend_bos=False)  # which hangs the libraries' own hooks
    watch, level = Leftovers(bridge), bridge.context_level
    yield
    assert watch.take_hooks() == [] and watch.changed_weights() == [] and bridge.context_level == level
    assert not [name for name, module in bridge.named_modules() if "forward" in module.__dict__]


@torch.inference_mode()
def test_a_run_is_the_bridges_own(decoder, pair):
    tokens, _ = pair
    run, cache = decoder.model.run(tokens), cache_of(decoder.bridge, tokens)
    for layer in range(LAYERS):
        assert (run.resid[layer] - cache[f"blocks.{layer}.hook_resid_pre"]).abs().max() < 1e-5
        inside = decoder.model.attention(layer, run.resid[layer])
        for part, site in {"q": "q", "k": "k", "v": "v", "pattern": "pattern", "z": "z", "out": "attn_out"}.items():
            assert (getattr(inside, part) - cache[f"blocks.{layer}.{HOOKS[site]}"]).abs().max() < 1e-5
    logits = decoder.bridge(tokens, prepend_bos=False)[:, -1]
    assert (decoder.model.logits(run.resid[-1][:, -1]) - logits).abs().max() < 1e-4
    answers = tokens[:, :2]
    assert (decoder.model.answer_logits(run.resid[-1][:, -1], answers) - logits.gather(1, answers)).abs().max() < 1e-4
    assert (decoder.subject.last_logits(tokens) - logits).abs().max() < 1e-4


@pytest.mark.parametrize("positions", [None, SCATTERED], ids=["all positions", "one position a prompt"])
@pytest.mark.parametrize("site", HOOKS)
@torch.inference_mode()
def test_every_intervention_agrees_with_a_plain_loop(decoder, pair, site, positions):
    clean, corrupted = pair
    model, cache = decoder.model, cache_of(decoder.bridge, clean)
    grouped = site in ("k", "v") and decoder.name not in UNGROUPED
    untouched = decoder.bridge(corrupted, prepend_bos=False)[:, -1]
    edits = edits_from(cache, site, positions, by_head=site in HEAD_SITES and not grouped)
    ours = model.logits(model.intervene(model.run(corrupted), edits))
    theirs = torch.stack([forward_with(decoder.bridge, corrupted, cache, edit) for edit in edits])
    assert (ours - theirs).abs().max() < 1e-4
    assert (theirs - untouched).abs().max() > 1e-2, "the twin does nothing, so agreeing with it would mean nothing"


@pytest.mark.parametrize("positions", [None, SCATTERED], ids=["all positions", "one position a prompt"])
@pytest.mark.parametrize("site", ["k", "v"])
@torch.inference_mode()
def test_a_heads_key_or_value_is_changed_for_it_alone(decoder, pair, site, positions):
    """As in a twin in which the heads of a group have each their own."""
    clean, corrupted = pair
    model, cache = decoder.model, cache_of(decoder.ungrouped.bridge, clean)
    assert (decoder.ungrouped.bridge(clean) - decoder.bridge(clean)).abs().max() < 1e-4
    alone = edits_from(cache, site, positions, by_head=True)
    joint = [[edit for edits in alone[:LAYERS] for edit in edits], [edit for edits in alone for edit in edits]]
    joint.append([*alone[1], *alone[2], *edits_from(cache, "q", positions, by_head=True)[1], *alone[HEADS]])
    ours = model.logits(model.intervene(model.run(corrupted), [*alone, *joint]))
    theirs = torch.stack([forward_with(decoder.ungrouped.bridge, corrupted, cache, edits) for edits in [*alone, *joint]])
    assert (ours - theirs).abs().max() < 1e-4
    assert (theirs - decoder.bridge(corrupted, prepend_bos=False)[:, -1]).abs().max() > 1e-2


@torch.inference_mode()
def test_keys_and_values_of_all_heads_are_one_a_group(decoder, pair):
    run = decoder.model.run(pair[0])
    for site in ("k", "v"):
        edits = [[Edit(0, site, torch.zeros(5, 9, HEADS, decoder.model.d_head))]]
        if decoder.name in UNGROUPED:  # a group of one: as many as there are heads is right
            assert decoder.model.intervene(run, edits).shape == (1, 5, decoder.model.d_model)
            continue
        with pytest.raises(ValueError, match=r"4 heads share . keys and values: set as many, or name the head"):
            decoder.model.intervene(run, edits)


@torch.inference_mode()
def test_places_that_are_kept_stay_what_they_are_under_the_intervention(decoder, pair):
    """A mean ablation of all heads but a circuit's, in all layers, and of one MLP."""
    tokens, other = pair
    model, cache = decoder.model, cache_of(decoder.bridge, other)
    keep = torch.rand(LAYERS, 5, 9, HEADS, generator=torch.Generator().manual_seed(0)) < 0.3
    means = [cache[f"blocks.{layer}.attn.hook_z"].mean(0, keepdim=True).expand(5, -1, -1, -1) for layer in range(LAYERS)]
    mlp = cache["blocks.1.hook_mlp_out"].mean(0, keepdim=True).expand(5, -1, -1)
    edits = [Edit(layer, "z", means[layer], keep=keep[layer]) for layer in range(LAYERS)] + [Edit(1, "mlp_out", mlp)]

    def hook_for(layer):
        def hook(z, hook):
            z = z.clone()
            for place in (~keep[layer]).nonzero().tolist():
                z[tuple(place)] = means[layer][tuple(place)]
            return z

        return f"blocks.{layer}.attn.hook_z", hook

    hooks = [*map(hook_for, range(LAYERS)), ("blocks.1.hook_mlp_out", lambda out, hook: mlp.clone())]
    theirs = decoder.bridge.run_with_hooks(tokens, fwd_hooks=hooks, prepend_bos=False)[:, -1]
    assert (model.logits(model.intervene(model.run(tokens), [edits]))[0] - theirs).abs().max() < 1e-4


@torch.inference_mode()
def test_a_change_of_attn_out_equals_the_same_change_of_resid_mid(decoder, pair):
    """The identity that the bridge's own `hook_resid_mid` breaks; and where there is no such stream, the reason is said."""
    model, run = decoder.model, decoder.model.run(pair[0])
    delta = torch.randn(5, 1, model.d_model, generator=torch.Generator().manual_seed(0))
    if decoder.name == "NeoX":
        with pytest.raises(Unsupported, match="side by side"):
            model.intervene(run, [[Edit(0, "resid_mid", delta, None, SCATTERED)]])
        with pytest.raises(Unsupported, match="side by side"):
            model.mlp_out(0, delta)
        with pytest.raises(Unsupported, match="side by side"):
            model.trace(run, SCATTERED)
        return
    rows = torch.arange(5)[:, None]
    for layer in range(LAYERS):
        out = model.attention(layer, run.resid[layer]).out
        there, mid = out[rows, SCATTERED], (run.resid[layer] + out)[rows, SCATTERED]
        edits = [[Edit(layer, "attn_out", there + delta, None, SCATTERED)]]
        edits += [[Edit(layer, "resid_mid", mid + delta, None, SCATTERED)]]
        edits += [[Edit(layer, "attn_out", 0 * there, None, SCATTERED), edits[1][0]]]
        moved = model.intervene(run, edits)
        assert (moved - moved[0]).abs().max() < 1e-4
        assert (moved[0] - run.resid[-1][:, -1]).abs().max() > 1e-2
        mlp_out = run.resid[layer + 1] - run.resid[layer] - out
        assert (model.mlp_out(layer, run.resid[layer] + out) - mlp_out).abs().max() < 1e-4


@torch.inference_mode()
def test_patching_nothing_changes_nothing(decoder, pair):
    model, run = decoder.model, decoder.model.run(pair[0])
    edits = [[]]
    for layer in range(LAYERS):
        inside = model.attention(layer, run.resid[layer])
        edits += [[Edit(layer, "resid_pre", run.resid[layer])], [Edit(layer, "z", inside.z)], [Edit(layer, "k", inside.k)]]
        edits += [[Edit(layer, "pattern", inside.pattern[:, head], head)] for head in range(HEADS)]
        edits += [[Edit(layer, "v", inside.v[:, :, decoder.entry(head, "v")], head)] for head in range(HEADS)]
    assert (model.intervene(run, edits) - run.resid[-1][:, -1]).abs().max() < 1e-4


@torch.inference_mode()
def test_patching_everything_gives_the_other_run(decoder, pair):
    clean, corrupted = pair
    model = decoder.model
    source, base = model.run(clean), model.run(corrupted)
    parts = [Edit(0, "resid_pre", source.resid[0])]
    for layer in range(LAYERS):
        out = model.attention(layer, source.resid[layer]).out
        parts += [Edit(layer, "attn_out", out), Edit(layer, "mlp_out", source.resid[layer + 1] - source.resid[layer] - out)]
    ways = [[Edit(layer, "resid_pre", source.resid[layer])] for layer in range(LAYERS)] + [parts]
    ways += [[Edit(layer, "resid_post", source.resid[layer + 1])] for layer in range(LAYERS)]
    if decoder.name != "NeoX":
        mids = [source.resid[layer] + model.attention(layer, source.resid[layer]).out for layer in range(LAYERS)]
        ways += [[Edit(layer, "resid_mid", mid)] for layer, mid in enumerate(mids)]
    moved = model.intervene(base, ways)
    assert (moved - source.resid[-1][:, -1]).abs().max() < 1e-4
    assert (base.resid[-1] - source.resid[-1])[:, -1].abs().max() > 1e-2


def slice_at_end(edit: Edit) -> Edit:
    return Edit(edit.layer, edit.site, edit.value[:, -1:], edit.head, ONLY_END)


@torch.inference_mode()
def test_nothing_before_the_first_layer_touched_is_computed(decoder, pair):
    clean, corrupted = pair
    model, base = decoder.model, decoder.model.run(corrupted)
    z = [model.attention(layer, model.run(clean).resid[layer]).z for layer in range(LAYERS)]
    sweep = [[Edit(layer, "z", z[layer][:, :, head], head)] for layer in range(1, LAYERS) for head in range(HEADS)]
    if isinstance(model, ModuleDecoder):
        rows = rows_through_mlps(model, lambda: model.intervene(base, [[slice_at_end(edit)] for (edit,) in sweep]))
        # Five prompts and four heads a layer at END alone; beside attention, an MLP does not see what its layer's heads write.
        assert rows == ({2: 20} if model.parallel else {1: 20, 2: 40})
        return
    inside = [block.mlp for block in decoder.bridge.blocks]
    calls, stop = counted([*inside, decoder.bridge.unembed.original_component])
    model.intervene(base, sweep)
    assert calls == [0, 1, 2, 0], "one batch for each layer that something begins in, and no unembedding"
    model.attention(1, base.resid[1])
    assert calls == [0, 2, 2, 0]
    model.path_patch(base, model.run(clean), [[Head(1, 0)], [Head(1, 2)]], Receivers((Head(2, 1),), "q"), ALL)
    assert calls == [3, 6, 7, 0], "three whole runs, one of them for `new`, C from layer 1 on, and D from layer 2 on"
    stop()


@torch.inference_mode()
def test_splitting_for_memory_changes_nothing(decoder, pair):
    clean, corrupted = pair
    model = decoder.model
    base, source = model.run(corrupted), model.run(clean)
    rows = torch.arange(5)[:, None]
    edits = [[Edit(layer, "resid_pre", source.resid[layer][rows, SCATTERED], None, SCATTERED)] for layer in range(LAYERS)]
    inside = model.attention(0, source.resid[0])
    edits += [[Edit(0, "k", inside.k[:, :, decoder.entry(head, "k")], head)] for head in range(HEADS)]
    whole = model.intervene(base, edits)
    receivers = Receivers((Head(2, 1), Head(1, 1)), "v")
    paths = model.path_patch(base, source, EVERY_HEAD[:HEADS], receivers, ALL)
    rounding = 2e-6 * float(whole.abs().max())  # of sums that are made in another order
    for memory in (1, 300_000):
        assert (whole - model.intervene(base, edits, memory=memory)).abs().max() < rounding
        split = model.path_patch(base, source, EVERY_HEAD[:HEADS], receivers, ALL, memory=memory)
        assert (paths - split).abs().max() < rounding


@torch.inference_mode()
def test_steps_of_single_heads_are_those_of_the_whole_layer(decoder, pair):
    model, run = decoder.model, decoder.model.run(pair[0])
    for layer in range(LAYERS):
        inside = model.attention(layer, run.resid[layer])
        for head in range(HEADS):
            for which in ("q", "k", "v"):
                whole = getattr(inside, which)[:, :, decoder.entry(head, which)]
                assert (model.head_input(layer, run.resid[layer], head, which) - whole).abs().max() < 1e-5
            if decoder.name == "Gemma2":
                with pytest.raises(Unsupported, match="do not simply add up"):
                    model.head_out(layer, inside.z[:, :, head], head)
                continue
            W_O = decoder.bridge.blocks[layer].attn.W_O[head]
            assert (model.head_out(layer, inside.z[:, :, head], head) - inside.z[:, :, head] @ W_O).abs().max() < 1e-5


@torch.inference_mode()
def test_parts_of_the_stream_share_out_the_final_norm(decoder, pair):
    model, final = decoder.model, decoder.model.run(pair[0]).resid[-1][:, -1]
    part = torch.randn(final.shape, generator=torch.Generator().manual_seed(0))
    normed = decoder.bridge.ln_final(final[:, None])[:, 0]
    bias = decoder.bridge.ln_final(torch.zeros_like(final)[:, None])[:, 0]
    shares = model.frozen_norm(part, final) + model.frozen_norm(final - part, final)
    assert (shares + bias - normed).abs().max() < 1e-4


SEVERAL = (Head(2, 3), Head(1, 0), Head(2, 2))
#: Receivers, MLPs, and positions of the senders.
PATHS = [
    (None, "recomputed", SCATTERED_AND_END),
    (None, "frozen", ALL),
    (Receivers(SEVERAL, "q"), "recomputed", ALL),
    (Receivers(SEVERAL, "k"), "recomputed", ALL),
    (Receivers((Head(2, 1),), "k"), "frozen", SCATTERED),
    (Receivers(SEVERAL, "v"), "frozen", ALL),
    (Receivers((Head(2, 1),), "v"), "recomputed", SCATTERED),
]
SENDERS = [*EVERY_HEAD[:-HEADS], EVERY_HEAD[-1], *SETS[1:]]


@pytest.mark.parametrize(
    ("receivers", "mlps", "positions"), PATHS, ids=[f"{r or 'logits'} with MLPs {m}".replace(",", "") for r, m, _ in PATHS]
)
@torch.inference_mode()
def test_path_patching_agrees_with_four_plain_forward_passes(decoder, pair, receivers, mlps, positions):
    """Into keys and values of grouped heads, with those of a twin whose heads have each their own."""
    original, new = pair
    model = decoder.model
    base = model.run(original)
    ours = model.path_patch(base, model.run(new), SENDERS, receivers, positions, mlps=mlps)
    theirs = at_end(plainly(decoder.ungrouped.bridge, original, new, SENDERS, receivers, positions, mlps))
    assert (ours - theirs).abs().max() < 1e-4
    effects = (theirs - base.resid[-1][:, -1]).abs().amax((1, 2))
    assert effects[:HEADS].min() > 1e-4, "the twin does nothing, so agreeing with it would mean nothing"
    same = model.path_patch(base, base, SENDERS, receivers, positions, mlps=mlps)
    nobody = model.path_patch(base, model.run(new), [[], [Head(0, 0)], []], receivers, positions, mlps=mlps)[[0, 2]]
    for unchanged in (same, nobody):
        assert (unchanged - base.resid[-1][:, -1]).abs().max() < 1e-4


@torch.inference_mode()
def test_path_patching_with_heads_knocked_out_agrees_with_the_twin(decoder, pair):
    original, new = pair
    model = decoder.model
    generator, width = torch.Generator().manual_seed(7), model.d_head
    heads = [Head(0, 2), Head(1, 3), Head(2, 2)]
    edits = [Edit(at, "z", torch.randn(5, 1, width, generator=generator), head, ONLY_END) for at, head in heads]
    if width == 8:
        senders = [*EVERY_HEAD, *SETS, []]
        ours = model.path_patch(model.run(original), model.run(new), senders, None, ONLY_END, knocked_out=edits)
        writes = as_writes(edits, original)
        theirs = at_end(plainly(decoder.bridge, original, new, senders, None, ONLY_END, knocked_out=writes))
        assert (ours - theirs).abs().max() < 1e-4
    if decoder.name != "NeoX":
        run = model.run(original)
        seen = model.trace(run, ALL, edits)
        assert (seen.pre[-1][:, -1] - model.intervene(run, [edits])[0]).abs().max() < 1e-4
        for edit in edits:
            assert (seen.z[edit.layer][:, -1, edit.head] - edit.value[:, 0]).abs().max() < 1e-6
        assert (seen.mid[0] - run.resid[0] - model.attention(0, run.resid[0]).out)[:, :-1].abs().max() < 1e-5


def test_nothing_is_left_behind_by_an_error_inside(decoder, pair):
    """As the fixture for all of these tests finds out."""
    model = decoder.model
    run = model.run(pair[0])
    wrong = torch.zeros(5, 9, 7)
    for edit in (Edit(1, "z", wrong, 0), Edit(2, "v", wrong, 1), Edit(2, "resid_pre", wrong), Edit(1, "mlp_out", wrong)):
        with pytest.raises(RuntimeError):
            model.intervene(run, [[edit]])
    if isinstance(model, HookedDecoder):
        with pytest.raises(ZeroDivisionError):
            model.passes(pair[0], start=1, stop=2, stream=run.resid[1], hooks={(1, "q"): lambda q: q / (1 // 0)})
    assert (model.run(pair[0]).resid - run.resid).abs().max() < 1e-6


def test_hooks_of_others_stay(decoder, pair):
    """Those of a claim that measures inside its own hooks, say."""
    tokens, bridge = pair[0], decoder.bridge
    if not isinstance(decoder.model, HookedDecoder):
        pytest.skip("this engine computes with the model's own modules; hooks on the bridge are for the engines on hooks")
    doubled = [("blocks.1.hook_mlp_out", lambda out, hook: 2 * out)]
    with bridge.hooks(fwd_hooks=doubled):
        inside = decoder.model.run(tokens)
        assert (inside.resid[-1] - decoder.model.run(tokens).resid[-1]).abs().max() < 1e-6
    assert (inside.resid[-1] - decoder.model.run(tokens).resid[-1]).abs().max() > 1e-2


@torch.inference_mode()
def test_tensors_are_made_where_the_models_are(decoder, pair):
    """In place of a GPU: whatever is made without a word of where, is made nowhere here, and cannot be computed with."""
    model, (clean, corrupted) = decoder.model, pair
    with torch.device("meta"):
        base, source = model.run(corrupted), model.run(clean)
        inside = model.attention(1, source.resid[1])
        edits = [
            [Edit(1, "z", inside.z[:, :, 1], 1)],
            [Edit(1, "k", inside.k[:, :, 0], 1), Edit(2, "resid_pre", source.resid[2])],
        ]
        moved = model.intervene(base, edits)
        moved = moved + model.path_patch(base, source, [[Head(0, 0)], [Head(1, 1)]], Receivers((Head(2, 1),), "v"), ALL)
        moved = moved + model.path_patch(base, source, [[Head(0, 0)], [Head(1, 1)]], None, ALL, knocked_out=edits[0])
        _ = model.head_input(1, source.resid[1], 0, "k"), model.head_outputs_at(source, 1, SCATTERED)
        logits = model.answer_logits(model.frozen_norm(moved, base.resid[-1][:, -1]), clean[:, :2])
        model.check_against(decoder.bridge, clean[:1, :8], 1e-3)
    assert logits.isfinite().all()
