"""Sparse autoencoders small enough for a test: random dictionaries in sae-lens's own layout, for the tiny models."""

import json
from pathlib import Path
from typing import Any

import torch

from circuit_claims.sae.folder import SaeFolder, find_sae_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2


def save_tiny_sae(
    folder: Path, *, d_in: int = 32, d_sae: int = 48, architecture: str = "standard", seed: int = 0, **said: Any
) -> Path:
    """Write a random SAE whose features are active about half of the time, and give back its folder.

    said: cfg.json's keys that are not the usual ones; of `metadata`, what is given is put over the usual.
    """
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    usual = {"hook_name": "blocks.1.hook_resid_pre", "prepend_bos": False, "context_size": 12}
    metadata = usual | said.pop("metadata", {})
    sae = (
        TopKSAE(TopKSAEConfig(d_in=d_in, d_sae=d_sae, k=5))
        if architecture == "topk"
        else StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=d_sae))
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / d_in**0.5)
    sae.save_model(folder)
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] |= metadata
    (folder / "cfg.json").write_text(json.dumps(cfg | said))
    return folder


def tiny_sae_folder(folder: Path, **said: Any) -> SaeFolder:
    """The same, looked at."""
    return find_sae_folder(save_tiny_sae(folder, **said))


def tiny_subject(folder: Path, mode: str = "processed", **shape: int) -> Subject:
    """A random GPT-2 of three layers and width 32 as a subject, in one mode."""
    shape = {"n_layer": 3, "n_head": 4} | shape
    if not (folder / "config.json").exists():
        save_tiny_gpt2(folder, n_embd=shape.pop("n_embd", 32), **shape)
    card = save_tiny_card(folder.parent / f"{folder.name}.toml", n_layer=shape["n_layer"], n_head=shape["n_head"])
    return Subject(prepare(Settings(name=str(folder), card=str(card), mode=mode)))
