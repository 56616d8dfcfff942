"""What can be wrong with an SAE's files and name: one sentence each, and nothing is loaded."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuit_claims.fixtures.sae import named_sae
from circuit_claims.sae.folder import SaeError, find_sae_folder
from circuit_claims.sae.registry import find_in_registry
from tests.support.tiny_saes import save_tiny_sae


@pytest.fixture
def folder(tmp_path):
    return save_tiny_sae(tmp_path / "sae")


def test_a_whole_folder_says_what_it_is(folder):
    found = find_sae_folder(folder)
    assert (found.name, found.cfg["d_in"], found.cfg["d_sae"]) == ("sae", 32, 48)
    assert found.metadata["hook_name"] == "blocks.1.hook_resid_pre" and found.record == {}
    assert len(found.sha256()) == 64


def says(folder, *parts):
    with pytest.raises(SaeError) as caught:
        find_sae_folder(folder)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path):
    says(tmp_path / "nowhere", "there is no folder")


def test_a_folder_without_cfg(folder):
    (folder / "cfg.json").unlink()
    says(folder, "has no cfg.json")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_cfg(folder, text):
    (folder / "cfg.json").write_text(text)
    says(folder, "cfg.json", "restore the file")


def test_a_cfg_without_widths(folder):
    cfg = json.loads((folder / "cfg.json").read_text())
    del cfg["d_sae"]
    (folder / "cfg.json").write_text(json.dumps(cfg))
    says(folder, "no widths")


def test_a_folder_without_weights(folder):
    (folder / "sae_weights.safetensors").unlink()
    says(folder, "has no sae_weights.safetensors")


def test_pickled_weights_are_refused_and_not_opened(folder):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise AssertionError('a pickle was opened')",))

    (folder / "sae_weights.safetensors").unlink()
    (folder / "sae_weights.pt").write_bytes(pickle.dumps(Bomb()))
    says(folder, "only as pickles", "safetensors")


def test_half_a_file_of_weights(folder):
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    says(folder, "not a whole safetensors file")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_dictionary_of_nan(folder, value):
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_dec"][3, 4] = value
    save_file(tensors, folder / "sae_weights.safetensors")
    says(folder, "NaN or infinite numbers in W_dec")


def test_weights_of_another_shape_than_cfg_says(folder):
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_enc"] = torch.zeros(32, 47)
    save_file(tensors, folder / "sae_weights.safetensors")
    says(folder, "does not fit its cfg.json", "W_enc is (32, 47)")


def test_names(folder, tmp_path):
    assert named_sae(str(folder)).path == folder
    for name, part in (
        (str(folder / "cfg.json"), "is a file"),
        ("./nowhere", "there is no folder"),
        ("nowhere", "there is no folder"),
        ("no-such-release/blocks.1.hook_resid_pre", "has no release 'no-such-release'"),
        ("gpt2-small-res-jb/blocks.99.hook_resid_pre", "has no SAE 'blocks.99.hook_resid_pre'"),
        ("gpt2-small-hook-z-kk/blocks.1.hook_z", "a format of its own"),
    ):
        with pytest.raises(SaeError, match=part.replace("(", r"\(")):
            named_sae(name)


def test_what_cannot_be_downloaded_is_said_in_a_sentence(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(SaeError, match="hub cannot be reached"):
        find_in_registry("gpt2-small-res-jb/blocks.8.hook_resid_pre")


def test_what_the_registry_adds_goes_before_the_files(folder, monkeypatch):
    """A registered SAE in the hub's cache: the name, the folder's files, and the registry's word on the model."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, file: str(folder / file.rpartition("/")[2]))
    found = find_in_registry("gpt2-small-res-jb/blocks.8.hook_resid_pre")
    assert found.name == "gpt2-small-res-jb/blocks.8.hook_resid_pre"
    assert found.metadata["model_name"] == "gpt2-small"
    assert found.metadata["model_from_pretrained_kwargs"] == {"center_writing_weights": True}
