"""Reading attention weights: whole or not, folded and centred with no change to what a head does, refused in one sentence."""

import json

import pytest
import torch

from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.weights.attention_weights import AttentionWeights
from tests.support.tiny_models import save_tiny_gpt2
from tests.support.tiny_weights import HEADS, LAYERS, WIDTH, read, save_attention, tensors


def test_a_folder_of_attention_alone_is_enough(tmp_path):
    weights = read(save_attention(tmp_path))
    assert weights.W_Q.shape == (LAYERS, HEADS, WIDTH, WIDTH // HEADS)
    assert weights.W_O.shape == (LAYERS, HEADS, WIDTH // HEADS, WIDTH)
    assert weights.W_Q.dtype == torch.float64


def test_either_prefix_is_read(tmp_path):
    a, b = (read(save_attention(tmp_path / str(len(prefix)), prefix=prefix)) for prefix in ("transformer.", ""))
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("W_Q", "W_K", "W_V", "W_O", "W_pos", "b_Q"))


def test_half_precision_costs_no_more_than_its_rounding(tmp_path):
    full = read(save_attention(tmp_path / "full"))
    half = read(save_attention(tmp_path / "half", lambda found: {name: tensor.half() for name, tensor in found.items()}))
    assert (full.W_O - half.W_O).abs().max() < 2**-9


def test_weights_are_as_the_bridge_has_them_after_processing(tmp_path):
    """Against TransformerLens, raw and processed."""
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    card = tmp_path / "tiny.toml"
    card.write_text(f'title = "tiny"\n[shape]\nlayers = {LAYERS}\nheads = {HEADS}\n')
    for mode in ("raw", "processed"):
        bridge = Subject(prepare(Settings(name=str(folder), card=str(card), mode=mode))).bridge
        weights = read(folder, processed=mode == "processed")
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K"):
            torch.testing.assert_close(getattr(weights, name).float(), getattr(bridge, name), atol=1e-5, rtol=1e-4, msg=name)
        torch.testing.assert_close(weights.W_pos.float(), bridge.pos_embed.weight, atol=1e-5, rtol=1e-4)


def attention_scores(weights: AttentionWeights, gain, bias, stream: torch.Tensor, layer: int) -> torch.Tensor:
    """Scores of a layer's heads on a stream, with the layer norm's gain and bias as given."""
    normed = torch.nn.functional.layer_norm(stream, stream.shape[-1:], eps=weights.eps) * gain + bias
    queries = normed @ weights.W_Q[layer] + weights.b_Q[layer][:, None]
    keys = normed @ weights.W_K[layer] + weights.b_K[layer][:, None]
    return queries @ keys.mT / weights.scale[layer]


@pytest.mark.parametrize("layer", range(LAYERS))
def test_folding_and_centring_change_no_attention_score(tmp_path, layer):
    folder, found = save_attention(tmp_path), tensors()
    raw, processed = read(folder, processed=False), read(folder)
    stream = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gain, bias = (found[f"h.{layer}.ln_1.{part}"].double() for part in ("weight", "bias"))
    before = attention_scores(raw, gain, bias, stream, layer)
    # What heads and embeddings write loses its mean, too, and nothing that reads can tell.
    centred = stream - stream.mean(-1, keepdim=True)
    torch.testing.assert_close(attention_scores(processed, 1.0, 0.0, centred, layer), before)


def test_the_layers_number_divides_scores_where_the_config_says_so(tmp_path):
    plain, by_layer, bare = (
        read(save_attention(tmp_path / str(i), config=config)).scale
        for i, config in enumerate([{}, {"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}])
    )
    root = (WIDTH // HEADS) ** 0.5
    assert plain.tolist() == [root] * 3 and by_layer.tolist() == [root, 2 * root, 3 * root] and bare.tolist() == [1.0] * 3


# Folders that are not what they should be.


def without(*names: str):
    return lambda found: {name: tensor for name, tensor in found.items() if name not in names}


def with_nan(found):
    found["h.0.attn.c_proj.weight"][0, 0] = float("nan")
    return found


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (without("h.1.ln_1.bias"), {}, "lack h.1.ln_1.bias: name a folder with all attention layers"),
        (without("wpe.weight", "h.2.attn.c_attn.weight"), {}, "lack wpe.weight and 1 more"),
        (None, {"n_embd": 64}, "wpe.weight in .* is 24 × 32, and config.json makes it 24 × 64: restore the two from one model"),
        (None, {"n_layer": 4}, "lack h.3.ln_1.weight and 4 more"),
        (None, {"n_head": 5}, "gives no shape"),
        (None, {"n_positions": None}, "gives no shape"),
        (None, {"model_type": "llama"}, "is a llama, and its weights are laid out otherwise"),
        (with_nan, {}, "h.0.attn.c_proj.weight in .* holds values that are no numbers"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, change, config, said):
    folder = save_attention(tmp_path, change, config=config)
    with pytest.raises(SubjectError, match=said) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_a_file_cut_short_is_said(tmp_path):
    path = save_attention(tmp_path) / "attention.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SubjectError, match="not a whole safetensors file"):
        read(tmp_path)


def test_pickles_are_refused(tmp_path):
    save_attention(tmp_path)
    (tmp_path / "attention.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(SubjectError, match="only as pickles"):
        read(tmp_path)


def test_the_real_weights_are_whole(gpt2_folder):
    weights = read(gpt2_folder)
    assert weights.W_Q.shape == (12, 12, 768, 64) and weights.W_pos.shape == (1024, 768)
    assert json.loads((gpt2_folder / "config.json").read_text())["n_embd"] == 768
