"""Logits that are linear in what the final norm gives are told from scaled and capped ones, in coarse dtypes too."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.untested import Untested
from tests.conftest import HEADS, LAYERS
from tests.support import plain_twins
from tests.support.other_architectures import only_hooks, save_tiny_decoder
from tests.support.tiny_models import save_tiny_card

N = 6


def task(folder: Path, architecture: str, dtype: str, louder: float = 1.0):
    """IOI on a tiny model of this architecture, whose logits are multiplied by `louder` in the unembedding."""
    path = save_tiny_decoder(folder / "model", architecture)
    state = load_file(path / "model.safetensors")
    if louder != 1.0:
        state["lm_head.weight"] *= louder
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    card = save_tiny_card(folder / "card.toml", n_layer=LAYERS, n_head=HEADS)
    settings = Settings(name=str(path), card=str(card), mode="raw", device="cpu", dtype=dtype)
    return plain_twins.task(Subject(prepare(settings)), bos=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("louder", [1.0, 30.0], ids=["small logits", "logits as large as of trained models"])
@torch.inference_mode()
def test_rounding_is_no_scale_and_no_cap(tmp_path, dtype, louder):
    ioi = task(tmp_path, "Llama", dtype, louder)
    attribution = ioi.direct_attribution()
    whole = attribution.parts().take(N).values[:, :, 0].sum(1) + attribution.constant().take(N).values
    difference = ioi.logit_difference().take(N).values
    assert whole == pytest.approx(difference, abs=16 * torch.finfo(getattr(torch, dtype)).eps * max(1.0, abs(difference).max()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@torch.inference_mode()
def test_a_scale_is_found_in_every_dtype(tmp_path, dtype, monkeypatch):
    """Where the configuration is not read, but the model's own code is passed through."""
    only_hooks(monkeypatch)
    with pytest.raises(Untested, match="are not linear in what its final norm gives"):
        task(tmp_path, "Granite", dtype).direct_attribution().parts().take(N)


@torch.inference_mode()
def test_a_scale_that_the_configuration_names_is_in_the_unembedding(tmp_path):
    ioi = task(tmp_path, "Granite", "float32")
    attribution = ioi.direct_attribution()
    whole = attribution.parts().take(N).values[:, :, 0].sum(1) + attribution.constant().take(N).values
    assert whole == pytest.approx(ioi.logit_difference().take(N).values, abs=1e-5)
    assert abs(whole).max() > 1e-2


@torch.inference_mode()
def test_a_cap_is_no_unembedding(tmp_path):
    with pytest.raises(Untested, match="are not linear in what its final norm gives"):
        task(tmp_path, "Gemma2", "float32").direct_attribution().parts().take(N)
