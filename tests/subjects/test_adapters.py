"""Adapters of peft: the subject is the adapted model, and whatever is wrong with adapter, base or both is one sentence."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from circuit_claims.models.disk_cache import cache
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects import adapter as adapter_module
from circuit_claims.subjects.faithful_boot import load_model
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.hub_caches import COMMIT, put_in_cache
from tests.support.tiny_configurations import random_model, save_with_tokenizer, tiny_config
from tests.support.tiny_models import TOKENIZER_FILES, save_tiny_card

TOKENS = torch.arange(5, 29)[None]
LLAMA: dict[str, Any] = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
GPT2: dict[str, Any] = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
KINDS: dict[str, tuple[str, PeftConfig]] = {
    "LoRA": ("Llama", LoraConfig(r=4, lora_alpha=16, task_type=TaskType.CAUSAL_LM, **LLAMA)),
    "LoRA, GPT-2": ("GPT-2", LoraConfig(r=4, task_type=TaskType.CAUSAL_LM, **GPT2)),
    "DoRA": ("Llama", LoraConfig(r=2, use_dora=True, task_type=TaskType.CAUSAL_LM, **LLAMA)),
    "rank-stabilised, with a head": ("Llama", LoraConfig(r=2, use_rslora=True, modules_to_save=["lm_head"], **LLAMA)),
    "IA3": ("Llama", IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Models to adapt."""
    root = tmp_path_factory.mktemp("bases")
    return {
        name: save_with_tokenizer(random_model(tiny_config(name)), root / name.replace(" ", "")) for name in ("Llama", "GPT-2")
    }


def adapt(base: Path, folder: Path, config: PeftConfig, *, named: str | None = None, seed: int = 0) -> Path:
    """Write an adapter whose weights are far from nothing, and give back its folder."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "magnitude" not in name:
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(str(folder))
    configure(folder, base_model_name_or_path=str(base) if named is None else named)
    return folder


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def lora(bases, tmp_path) -> Path:
    """An ordinary adapter."""
    return adapt(bases["Llama"], tmp_path / "my-lora", KINDS["LoRA"][1])


def log_probs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits.log_softmax(-1)


def of_peft(base: Path, folder: Path) -> torch.Tensor:
    """What peft gives, with the adapter beside the weights."""
    return log_probs(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).eval())


def ours(folder: Path) -> torch.Tensor:
    return log_probs(load_model(find_folder(str(folder)).path, torch.float32))


def refused(folder: Path) -> str:
    """The one sentence with which a folder is refused; nothing stays of it in the cache."""
    with pytest.raises(SubjectError) as caught:
        find_folder(str(folder))
    message = str(caught.value)
    wrong, colon, todo = message.rpartition(": ")
    assert "\n" not in message and wrong and colon and len(todo.split()) >= 3, message
    assert not cache().exists() or not list(cache().iterdir())
    return message


# What is loaded.


@pytest.mark.parametrize("kind", KINDS)
def test_the_subject_is_the_adapted_model(bases, tmp_path, kind):
    name, config = KINDS[kind]
    folder = adapt(bases[name], tmp_path / "adapter", config)
    right, plain = of_peft(bases[name], folder), log_probs(AutoModelForCausalLM.from_pretrained(bases[name]))
    assert (right - plain).abs().max() > 0.1, "the adapter does something"
    assert torch.allclose(ours(folder), right, atol=5e-5)


@pytest.mark.parametrize("mode", ["raw", "processed"])
@pytest.mark.parametrize("kind", ["LoRA", "LoRA, GPT-2"])
def test_interventions_are_made_on_the_adapted_model(bases, tmp_path, kind, mode):
    name, config = KINDS[kind]
    folder = adapt(bases[name], tmp_path / "adapter", config)
    card = save_tiny_card(tmp_path / "card.toml", n_layer=3, n_head=4)
    subject = Subject(prepare(Settings(str(folder), card=str(card), device="cpu", mode=mode)))
    off = subject.last_logits(TOKENS).log_softmax(-1) - of_peft(bases[name], folder)[:, -1]
    assert off.abs().max() < 2e-4
    assert subject.name == "adapter" and len(subject.names) == 99


def test_the_checksum_and_the_source_cover_base_and_adapter(bases, lora):
    found = find_folder(str(lora))
    parts = (bases["Llama"] / "model.safetensors", lora / "adapter_config.json", lora / "adapter_model.safetensors")
    assert found.sha256() == hashlib.sha256(b"".join(file.read_bytes() for file in parts)).hexdigest()
    assert found.source == "folder my-lora: LoRA adapter, merged into Llama (folder Llama)" and found.name == "my-lora"


def test_the_second_time_nothing_is_merged(lora, monkeypatch):
    first = find_folder(str(lora))
    monkeypatch.setattr(adapter_module, "load_model", lambda *_: pytest.fail("it is loaded again"))
    assert find_folder(str(lora)).path == first.path


def test_another_scale_is_another_model(lora):
    first = find_folder(str(lora))
    checksum = first.sha256()
    configure(lora, lora_alpha=1)
    second = find_folder(str(lora))
    assert first.path != second.path and checksum != second.sha256()


def test_an_adapter_beside_its_base_is_applied_to_it(bases, lora, tmp_path):
    """As transformers does, whatever model the adapter names."""
    folder = Path(shutil.copytree(bases["Llama"], tmp_path / "both"))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(lora / name, folder / name)
    configure(folder, base_model_name_or_path="owner/nowhere")
    right = of_peft(bases["Llama"], lora)
    assert torch.allclose(ours(folder), right, atol=5e-5)
    assert torch.allclose(log_probs(AutoModelForCausalLM.from_pretrained(folder)), right, atol=5e-5)
    found = find_folder(str(folder))
    assert "adapter, merged into the model beside it" in found.source
    parts = (folder / "model.safetensors", folder / "adapter_config.json", folder / "adapter_model.safetensors")
    assert found.sha256() == hashlib.sha256(b"".join(file.read_bytes() for file in parts)).hexdigest()


@pytest.mark.parametrize("named", ["base", "../base", "./base"])
def test_a_base_is_found_beside_the_adapter(bases, tmp_path, named):
    (tmp_path / "there").mkdir()
    shutil.copytree(bases["Llama"], tmp_path / "there" / "base")
    folder = adapt(bases["Llama"], tmp_path / "there" / "adapter", KINDS["LoRA"][1], named=named)
    assert torch.allclose(ours(folder), of_peft(bases["Llama"], folder), atol=5e-5)


def test_a_base_is_found_in_the_hubs_cache(bases, tmp_path, network, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    put_in_cache(tmp_path / "hub", "owner/base", bases["Llama"])
    folder = adapt(bases["Llama"], tmp_path / "adapter", KINDS["LoRA"][1], named="owner/base")
    assert torch.allclose(ours(folder), of_peft(bases["Llama"], folder), atol=5e-5)
    assert f"merged into owner/base (hub owner/base, commit {COMMIT})" in find_folder(str(folder)).source and not network


def test_an_adapter_of_an_adapter_is_applied_to_both(bases, lora, tmp_path):
    second = adapt(find_folder(str(lora)).path, tmp_path / "second", KINDS["LoRA"][1], named=str(lora), seed=1)
    assert torch.allclose(ours(second), of_peft(find_folder(str(lora)).path, second), atol=5e-5)


def test_the_adapters_own_tokenizer_is_taken(bases, lora):
    for name in TOKENIZER_FILES:
        shutil.copy(bases["Llama"] / name, lora / name)
    said = json.loads((lora / "tokenizer_config.json").read_text()) | {"model_max_length": 77}
    (lora / "tokenizer_config.json").write_text(json.dumps(said))
    assert json.loads((find_folder(str(lora)).path / "tokenizer_config.json").read_text())["model_max_length"] == 77


# What is wrong.


def test_a_base_that_is_nowhere_is_said_so(bases, tmp_path, network, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = adapt(bases["Llama"], tmp_path / "adapter", KINDS["LoRA"][1], named="/nowhere/base")
    message = refused(folder)
    assert "the base of the adapter in" in message and "there is no folder /nowhere/base" in message
    configure(folder, base_model_name_or_path="owner/base")
    assert "owner/base is not in the local cache" in refused(folder)
    configure(folder, base_model_name_or_path=None)
    assert "does not say which model the adapter is for" in refused(folder)


def test_an_adapter_that_is_its_own_base_is_said_so(lora, tmp_path):
    configure(lora, base_model_name_or_path=str(lora))
    assert "is its own base" in refused(lora)
    other = Path(shutil.copytree(lora, tmp_path / "other"))
    configure(lora, base_model_name_or_path=str(other))
    assert "is its own base" in refused(lora)


def test_an_adapter_of_another_shape_than_its_base_is_said_so(bases, lora, tmp_path):
    config = tiny_config("Llama")
    config.hidden_size = config.intermediate_size = 64
    wide = save_with_tokenizer(random_model(config), tmp_path / "wide")
    configure(lora, base_model_name_or_path=str(wide))
    assert "does not fit its base (" in refused(lora)
    configure(lora, base_model_name_or_path=str(bases["GPT-2"]))
    assert "does not fit its base (" in refused(lora)


def test_an_adapter_for_more_layers_than_its_base_has_is_said_so(lora, tmp_path):
    """peft itself passes over them."""
    config = tiny_config("Llama")
    config.num_hidden_layers = 2
    short = save_with_tokenizer(random_model(config), tmp_path / "short")
    configure(lora, base_model_name_or_path=str(short))
    message = refused(lora)
    assert "does not fit its base (" in message and "layers.2." in message


def test_a_tensor_of_the_adapter_that_is_missing_is_named(lora):
    state = load_file(lora / "adapter_model.safetensors")
    key = next(key for key in sorted(state) if "lora_A" in key)
    del state[key]
    save_file(state, lora / "adapter_model.safetensors", metadata={"format": "pt"})
    assert key in refused(lora)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_adapters_that_are_no_weights_of_the_model_are_refused(bases, tmp_path, kind):
    given: dict[str, Any] = {"task_type": TaskType.CAUSAL_LM, "num_virtual_tokens": 3}
    config = PromptTuningConfig(**given) if kind == "prompt" else PrefixTuningConfig(**given)
    message = refused(adapt(bases["Llama"], tmp_path / "adapter", config))
    assert "puts vectors of its own before the prompt" in message and "such as LoRA" in message


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"peft_type": 3}'])
def test_a_configuration_that_is_none_is_said_so(lora, text):
    (lora / "adapter_config.json").write_text(text)
    assert "restore the file" in refused(lora)


def test_a_kind_of_adapter_that_peft_does_not_know_is_named(lora):
    configure(lora, peft_type="NONESUCH")
    message = refused(lora)
    assert "describes no adapter that peft" in message and "NONESUCH" in message


def test_a_pickled_adapter_is_not_loaded_and_the_sentence_converts_it(lora, monkeypatch):
    state = load_file(lora / "adapter_model.safetensors")
    torch.save(state, lora / "adapter_model.bin")
    (lora / "adapter_model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle is loaded"))
        message = refused(lora)
    assert "is kept as a pickle (adapter_model.bin)" in message
    code = message.split('python -c "')[1].split('"`')[0]
    monkeypatch.chdir(lora)
    exec(code, {})
    assert {key: value.tolist() for key, value in load_file(lora / "adapter_model.safetensors").items()} == {
        key: value.tolist() for key, value in state.items()
    }


def test_a_truncated_adapter_is_said_so(lora):
    file = lora / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert "again" in refused(lora) or "does not fit" in refused(lora)


def test_weights_that_are_no_numbers_are_said_so(lora):
    state = load_file(lora / "adapter_model.safetensors")
    key = next(key for key in sorted(state) if "lora_A" in key)
    state[key][0, 0] = float("nan")
    save_file(state, lora / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "cannot be merged" in refused(lora)


def test_a_merging_that_changes_the_model_is_refused(lora, monkeypatch):
    merged = adapter_module._merged

    def wrong(adapted, path):
        model = merged(adapted, path)
        model.model.layers[0].mlp.down_proj.weight.data *= 1.5
        return model

    monkeypatch.setattr(adapter_module, "_merged", wrong)
    assert "does other things merged into its base than beside it" in refused(lora)


def test_a_full_disk_is_one_sentence(lora, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    message = refused(lora)
    assert os.strerror(errno.ENOSPC) in message and "XDG_CACHE_HOME" in message
