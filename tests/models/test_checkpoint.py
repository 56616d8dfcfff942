"""Every tensor of a checkpoint is used or named; what is loaded is what the checksum covers; codes are refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from circuit_claims.models.folder import EMBEDDED
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.faithful_boot import load_model
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, prepare
from tests.support.tiny_configurations import random_model, save_with_tokenizer, tiny_config
from tests.support.tiny_models import save_tiny_card


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good models, to be copied and broken."""
    names = ("GPT-2", "GPT-2, untied", "Llama", "Llama, tied", "NeoX")
    root = tmp_path_factory.mktemp("models")
    return {name: save_with_tokenizer(random_model(tiny_config(name)), root / str(i)) for i, name in enumerate(names)}


@pytest.fixture
def copied(folders, tmp_path):
    """Makes a copy of one of them."""
    return lambda name: Path(shutil.copytree(folders[name], tmp_path / "model"))


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Set or, with None, remove tensors of a checkpoint."""
    state = load_file(folder / "model.safetensors") | tensors
    kept = {key: tensor.contiguous() for key, tensor in state.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    """Set keys of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def attempt(folder: Path) -> torch.nn.Module:
    """Everything up to the bridge, which these tests do without."""
    card = save_tiny_card(folder.parent / "card.toml", n_layer=3, n_head=4)
    return load_model(prepare(Settings(str(folder), card=str(card), device="cpu")).folder.path, torch.float32)


def refused(folder: Path) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(SubjectError) as caught:
        attempt(folder)
    message = str(caught.value)
    wrong, colon, todo = message.rpartition(": ")
    assert "\n" not in message and wrong and colon and len(todo.split()) >= 3, message
    return message


# Missing and unused.


@pytest.mark.parametrize("name", ["Llama", "GPT-2, untied"])
def test_a_missing_head_is_an_error_where_embeddings_are_not_tied(copied, name):
    folder = copied(name)
    change(folder, **{"lm_head.weight": None})
    assert "lm_head.weight" in refused(folder)


@pytest.mark.parametrize(("name", "lacks_head"), [("Llama", True), ("Llama, tied", False), ("GPT-2", False)])
def test_a_model_saved_by_its_base_class(folders, tmp_path, name, lacks_head):
    """Is whole where the head is the embedding, and else lacks its head."""
    save_with_tokenizer(AutoModel.from_pretrained(folders[name]), tmp_path / "model")
    if lacks_head:
        assert "lm_head.weight" in refused(tmp_path / "model")
        return
    tokens = torch.arange(5, 17)[None]
    with torch.no_grad():
        one, other = (load_model(path, torch.float32)(tokens).logits for path in (folders[name], tmp_path / "model"))
    assert torch.equal(one, other)
    attempt(tmp_path / "model")


@pytest.mark.parametrize("name", ["Llama, tied", "GPT-2"])
def test_a_tied_head_that_is_in_the_file_too_is_no_error(copied, name):
    folder = copied(name)
    (embedding,) = (
        w for key, w in load_file(folder / "model.safetensors").items() if key.endswith(("embed_tokens.weight", "wte.weight"))
    )
    change(folder, **{"lm_head.weight": embedding.clone()})
    attempt(folder)


@pytest.mark.parametrize("name", ["Llama", "NeoX", "GPT-2"])
def test_a_missing_tensor_is_named(copied, name):
    folder = copied(name)
    key = sorted(key for key in load_file(folder / "model.safetensors") if ".1." in key)[0]
    change(folder, **{key: None})
    assert key.partition(".1.")[2] in refused(folder)


UNUSED = {
    "scales of fp8": ("Llama", {f"model.layers.{i}.self_attn.q_proj.weight_scale_inv": torch.ones(1, 1) for i in range(3)}),
    "biases that config.json denies": ("Llama", {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}),
    "a layer more": ("Llama", {"model.layers.3.input_layernorm.weight": torch.ones(32)}),
    "another head": ("Llama", {"score.weight": torch.ones(2, 32)}),
    "an adapter among the weights": ("GPT-2", {"transformer.h.0.attn.c_attn.lora_A.weight": torch.ones(2, 32)}),
    "a head of two classes": ("GPT-2", {"score.weight": torch.ones(2, 32)}),
    "what GPT-NeoX passes over": ("NeoX", {"gpt_neox.layers.0.attention.query.bias": torch.ones(32)}),
}


@pytest.mark.parametrize("case", UNUSED)
def test_a_tensor_that_the_model_does_not_use_is_named(copied, case):
    name, tensors = UNUSED[case]
    folder = copied(name)
    change(folder, **tensors)
    message = refused(folder)
    assert next(iter(sorted(tensors))).removeprefix("transformer.") in message


BUFFERS = {
    "GPT-2": {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8), "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)},
    "GPT-2, boolean": {"transformer.h.1.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool)},
    "NeoX": {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8)},
    "Llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
}


@pytest.mark.parametrize("case", BUFFERS)
def test_buffers_of_old_versions_are_passed_over(copied, case):
    folder = copied(case.partition(",")[0])
    change(folder, **BUFFERS[case])
    attempt(folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8, torch.int32], ids=str)
def test_weights_kept_as_codes_are_refused(copied, dtype):
    folder = copied("Llama")
    key = "model.layers.1.mlp.up_proj.weight"
    change(folder, **{key: load_file(folder / "model.safetensors")[key].to(dtype)})
    message = refused(folder)
    assert key in message and "floating point" in message


# Quantisation.


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bits"),
        ({"load_in_8bit": True}, "bitsandbytes, 8 bits"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
    ids=str,
)
def test_a_quantised_checkpoint_is_refused_with_its_method(copied, said, method):
    folder = copied("GPT-2")
    configure(folder, quantization_config=said)
    message = refused(folder)
    assert f"quantised ({method})" in message and "dequantize()" in message


# Which files.


def sharded(folder: Path, to: Path) -> Path:
    """The same model in several files."""
    from transformers import AutoModelForCausalLM

    save_with_tokenizer(AutoModelForCausalLM.from_pretrained(folder), to, max_shard_size="20KB")
    assert len(list(to.glob("*.safetensors"))) > 2
    return to


def test_the_checksum_covers_what_is_loaded_and_nothing_else(folders, tmp_path):
    plain = hashlib.sha256((folders["Llama"] / "model.safetensors").read_bytes()).hexdigest()
    folder = Path(shutil.copytree(folders["Llama"], tmp_path / "model"))
    for stale in ("model-00001-of-00002.safetensors", "consolidated.safetensors"):
        save_file({"x": torch.ones(1)}, folder / stale)
    found = find_folder(str(folder))
    assert found.sha256() == plain and [path.name for path in found.weights] == ["model.safetensors"]
    attempt(folder)


def test_shards_are_summed_in_the_order_of_their_names_and_stale_ones_are_not(folders, tmp_path):
    folder = sharded(folders["Llama"], tmp_path / "model")
    files = sorted(folder.glob("*.safetensors"))
    whole = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    save_file({"x": torch.ones(1)}, folder / "model-00001-of-00002.safetensors")
    found = find_folder(str(folder))
    assert found.sha256() == whole and list(found.weights) == files
    tokens = torch.arange(5, 17)[None]
    with torch.no_grad():
        one, other = (load_model(path, torch.float32)(tokens).logits for path in (folders["Llama"], folder))
    assert torch.equal(one, other)


def test_a_missing_shard_is_named(folders, tmp_path):
    folder = sharded(folders["Llama"], tmp_path / "model")
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    assert lost.name in refused(folder) and "lacks 1 of the" in refused(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}'])
def test_an_index_that_names_no_files_of_the_folder_is_refused(folders, tmp_path, text):
    folder = sharded(folders["Llama"], tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(text)
    assert "restore the file" in refused(folder)


def test_files_that_transformers_does_not_look_for_are_no_weights(copied):
    folder = copied("Llama")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "transformers reads no other file (consolidated.safetensors)" in refused(folder)


def test_the_checksum_of_the_embedded_model_is_that_of_its_one_file():
    plain = hashlib.sha256((EMBEDDED["mini"] / "model.safetensors").read_bytes()).hexdigest()
    assert find_folder("mini").sha256() == plain


# Contexts.


@pytest.mark.parametrize(("positions", "good"), [(8, False), (16, False), (96, True)])
def test_a_context_shorter_than_the_prompts_is_refused(tmp_path, positions, good):
    config = tiny_config("GPT-2")
    config.n_positions = positions
    folder = save_with_tokenizer(random_model(config), tmp_path / "model")
    if good:
        attempt(folder)
    else:
        assert f"reads {positions} tokens at most" in refused(folder)
