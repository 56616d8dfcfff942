"""The engine computes the cone and nothing else, and its shortcuts change no number."""

import pytest
import torch

from circuit_claims.engine.edits import Edit
from tests.conftest import HEADS, LAYERS

N_PROMPTS, LENGTH = 5, 9
LAST = LAYERS - 1


@pytest.fixture
def mlp_rows(tiny, monkeypatch):
    """How many rows (a token under an intervention) went through an MLP, layer by layer."""
    _, model = tiny
    counted = [0] * LAYERS
    original = model.add_mlp_out_

    def counting(layer, resid):
        counted[layer] += resid.numel() // model.d_model
        original(layer, resid)

    monkeypatch.setattr(model, "add_mlp_out_", counting)
    return counted


def at(position: int) -> torch.Tensor:
    return torch.full((N_PROMPTS, 1), position)


def z_edit(model, source, layer: int, head: int, where: torch.Tensor | None) -> Edit:
    z = model.attention(layer, source.resid[layer]).z[:, :, head]
    return Edit(layer, "z", z if where is None else z[torch.arange(len(z))[:, None], where], head, where)


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("position", [2, 6, 8])
@torch.inference_mode()
def test_a_heads_output_at_one_position_costs_its_cone_and_no_row_more(tiny, pair, mlp_rows, layer, position):
    """Its own position in its layer, that position and all later ones in the layers between, and END alone in the last."""
    _, model = tiny
    clean, corrupted = (model.run(tokens) for tokens in pair)
    edit = z_edit(model, clean, layer, 1, at(position))
    before = list(mlp_rows)
    model.intervene(corrupted, [[edit]])
    width = LENGTH - position
    cone = [0] * layer + [1] + [width] * (LAYERS - layer - 1)
    cone[LAST] = 1
    assert [after - b for after, b in zip(mlp_rows, before, strict=True)] == [rows * N_PROMPTS for rows in cone]


@torch.inference_mode()
def test_a_residual_stream_costs_its_cone(tiny, pair, mlp_rows):
    _, model = tiny
    clean, corrupted = (model.run(tokens) for tokens in pair)
    where = at(6)
    edit = Edit(1, "resid_pre", clean.resid[1][:, 6:7], None, where)
    before = list(mlp_rows)
    model.intervene(corrupted, [[edit]])
    assert [after - b for after, b in zip(mlp_rows, before, strict=True)] == [0, 3 * N_PROMPTS, N_PROMPTS]


@torch.inference_mode()
def test_interventions_that_begin_at_different_places_are_what_each_is_alone(tiny, pair):
    """One call with all of them, in an order of no kind, gives each the numbers that a call of its own gives."""
    _, model = tiny
    clean, corrupted = (model.run(tokens) for tokens in pair)
    edits = [[z_edit(model, clean, layer, layer, at(position))] for position in (7, 4, 8, 5) for layer in (2, 0, 1)]
    edits += [[Edit(layer, "resid_pre", clean.resid[layer])] for layer in (2, 0)] + [[]]
    edits += [[Edit(1, "mlp_out", torch.zeros(5, 1, model.d_model), None, at(6))], [Edit(2, "resid_post", clean.resid[3])]]
    together = model.intervene(corrupted, edits)
    alone = torch.cat([model.intervene(corrupted, [each]) for each in edits])
    assert (together - alone).abs().max() < 1e-5
    assert len({round(float(row.abs().sum()), 3) for row in alone}) > 8, "the interventions are alike: nothing was compared"


@pytest.mark.parametrize(
    "sites", [("q", "k"), ("k", "v"), ("q", "z"), ("q", "pattern"), ("v", "pattern", "z"), ("q", "k", "v")], ids="+".join
)
@pytest.mark.parametrize("layer", [0, LAST])
@pytest.mark.parametrize("where", [None, at(5), torch.tensor([[4], [8], [5], [6], [7]])], ids=["all", "one", "scattered"])
@torch.inference_mode()
def test_several_edits_of_one_head_agree_with_hooks(tiny, pair, sites, layer, where):
    """Inside one head: what is set later acts on what was set before it, as in the model."""
    bridge, model = tiny
    clean, corrupted = pair
    _, cache = bridge.run_with_cache(clean, prepend_bos=False)
    head, rows = 2, torch.arange(N_PROMPTS)[:, None]
    edits, hooks = [], []
    for site in sites:
        name = f"blocks.{layer}.attn.hook_{site}"
        source = cache[name]
        value = source[:, head] if site == "pattern" else source[:, :, head]
        edits.append(Edit(layer, site, value if where is None else value[rows, where], head, where))

        def hook(activation, hook, site=site, source=source):
            activation = activation.clone()
            for row in range(N_PROMPTS):
                for position in range(LENGTH) if where is None else where[row].tolist():
                    place = (row, head, position) if site == "pattern" else (row, position, head)
                    activation[place] = source[place]
            return activation

        hooks.append((name, hook))
    theirs = bridge.run_with_hooks(corrupted, fwd_hooks=hooks, prepend_bos=False)[:, -1]
    ours = model.logits(model.intervene(model.run(corrupted), [edits]))[0]
    assert (ours - theirs).abs().max() < 1e-4


@torch.inference_mode()
def test_what_a_run_keeps_is_what_it_would_compute_again(tiny, pair):
    """Keys and values that are kept are those of the stream, and an intervention on such a run is the same."""
    _, model = tiny
    clean, corrupted = pair
    plain, keeping = model.run(corrupted), model.run(corrupted, keep=True)
    assert plain.kept is None and (plain.resid - keeping.resid).abs().max() < 1e-5
    for layer in range(LAYERS):
        for ours, theirs in zip(keeping.kept[layer], model.keys_and_values(layer, plain.resid[layer]), strict=True):
            assert (ours - theirs).abs().max() < 1e-5
    source = model.run(clean)
    edits = [[z_edit(model, source, layer, head, at(6))] for layer in range(LAYERS) for head in range(HEADS)]
    assert (model.intervene(plain, edits) - model.intervene(keeping, edits)).abs().max() < 1e-5
    assert keeping.n_bytes > 2 * plain.n_bytes


@torch.inference_mode()
def test_a_run_is_its_steps_one_after_the_other(tiny, pair):
    _, model = tiny
    tokens, _ = pair
    run, stream = model.run(tokens), model.embed(tokens)
    for layer in range(LAYERS):
        assert (run.resid[layer] - stream).abs().max() < 1e-5
        inside = model.attention(layer, stream)
        for where in (at(3), torch.tensor([[5, 8], [6, 1], [7, 2], [8, 0], [4, 4]])):
            z = model.head_outputs_at(run, layer, where)
            assert (z - inside.z[torch.arange(N_PROMPTS)[:, None], where]).abs().max() < 1e-5
        stream = stream + inside.out
        stream = stream + model.mlp_out(layer, stream)
    assert (run.resid[-1] - stream).abs().max() < 1e-5


@torch.inference_mode()
def test_many_rows_go_through_a_layer_in_blocks_that_change_nothing(tiny, pair, monkeypatch):
    _, model = tiny
    clean, corrupted = (model.run(tokens) for tokens in pair)
    edits = [[z_edit(model, clean, layer, head, None)] for layer in range(LAYERS) for head in range(HEADS)]
    whole = model.intervene(corrupted, edits)
    for module in ("steps", "layer", "patching"):
        monkeypatch.setattr(f"circuit_claims.engine.decoder.{module}.ROWS", 7)
    assert (model.intervene(corrupted, edits) - whole).abs().max() < 1e-5
    assert (model.run(pair[1]).resid - corrupted.resid).abs().max() < 1e-5
