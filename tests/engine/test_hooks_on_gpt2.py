"""The path through hooks against the one of plain tensors, on a model that both compute."""

import torch

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.hooked.decoder import HookedDecoder
from tests.conftest import LAYERS
from tests.engine.test_path_patching import SCATTERED


@torch.inference_mode()
def test_the_path_through_hooks_agrees_with_the_fast_one_on_gpt2(tiny, pair):
    """The two know nothing of each other's steps."""
    bridge, fast = tiny
    hooked = HookedDecoder(bridge)
    hooked.check_against(bridge, pair[0][:1, :8], 1e-5)
    assert isinstance(fast, Transformer) and not hooked.not_readable and not hooked.not_editable
    clean, corrupted = (fast.run(tokens) for tokens in pair)
    assert (hooked.run(pair[0]).resid - clean.resid).abs().max() < 1e-4
    rows, edits = torch.arange(5)[:, None], []
    for layer in range(LAYERS):
        inside = fast.attention(layer, clean.resid[layer])
        mid = clean.resid[layer] + inside.out
        edits += [[Edit(layer, "resid_mid", mid[rows, SCATTERED], None, SCATTERED)], [Edit(layer, "resid_mid", mid)]]
        edits += [[Edit(layer, "pattern", inside.pattern[:, 1], 1)], [Edit(layer, "q", inside.q), Edit(layer, "k", inside.k)]]
        edits += [[Edit(layer, "v", inside.v[rows, SCATTERED], None, SCATTERED), Edit(1, "resid_post", clean.resid[2])]]
        edits += [[Edit(layer, "resid_mid", mid), Edit(layer, "mlp_out", 0 * mid)]]
        assert (hooked.mlp_out(layer, mid) - fast.mlp_out(layer, mid)).abs().max() < 1e-4
        for which in "qkv":
            alone = (model.head_input(layer, mid, 2, which) for model in (hooked, fast))
            assert (next(alone) - next(alone)).abs().max() < 1e-4
        assert (hooked.head_out(layer, inside.z[:, :, 3], 3) - fast.head_out(layer, inside.z[:, :, 3], 3)).abs().max() < 1e-4
    assert (hooked.intervene(corrupted, edits) - fast.intervene(corrupted, edits)).abs().max() < 1e-4
    part, final = clean.resid[1][:, -1], clean.resid[-1][:, -1]
    assert (hooked.frozen_norm(part, final) - fast.frozen_norm(part, final)).abs().max() < 1e-4
    knocked_out = [Edit(1, "z", inside.z[:, :, 0], 0)]
    one, other = (model.trace(clean, SCATTERED, knocked_out) for model in (hooked, fast))
    for name in ("pre", "mid", "z"):
        assert (getattr(one, name) - getattr(other, name)).abs().max() < 1e-4
