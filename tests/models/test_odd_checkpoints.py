"""Checkpoints that hold something else than a causal language model's numbers in safetensors: each is one sentence."""

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from circuit_claims.models.folder import EMBEDDED, inspect_folder
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.causality import refuse_looking_ahead
from circuit_claims.subjects.faithful_boot import load_config, load_model, make_empty
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.tiny_configurations import CONFIGURATIONS, random_model, save_with_tokenizer, tiny_config
from tests.support.tiny_models import save_tiny_card

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


def attempt(folder: Path) -> Subject:
    """A subject of three layers and four heads."""
    card = save_tiny_card(folder.parent / "card.toml", n_layer=3, n_head=4)
    return Subject(prepare(Settings(str(folder), card=str(card), device="cpu")))


def refused(folder: Path) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(SubjectError) as caught:
        attempt(folder)
    message = str(caught.value)
    wrong, colon, todo = message.rpartition(": ")
    assert "\n" not in message and wrong and colon and len(todo.split()) >= 3, message
    return message


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def llama(tmp_path) -> Path:
    """A good model, to be broken."""
    return save_with_tokenizer(random_model(tiny_config("Llama")), tmp_path / "model")


# Numbers.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_named(llama, value):
    state = load_file(llama / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(state, llama / "model.safetensors", metadata={"format": "pt"})
    message = refused(llama)
    assert "model.layers.1.mlp.up_proj.weight in" in message and "holds values that are no numbers" in message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_loaded_in_float32_by_default(tmp_path, dtype):
    model: Any = random_model(tiny_config("Llama")).to(dtype)
    folder = save_with_tokenizer(model, tmp_path / "model")
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {dtype}
    subject = attempt(folder)
    assert {weight.dtype for weight in subject.bridge.parameters()} == {torch.float32} and Settings("x").dtype == "float32"
    loaded = load_model(folder, torch.float32)
    assert all(torch.equal(weight, model.state_dict()[name].float()) for name, weight in loaded.state_dict().items())
    tokens = torch.arange(5, 17)[None]
    with torch.no_grad():
        # Not `model.float()`, whose rotary frequencies have been in half precision.
        right = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits[:, -1].log_softmax(-1)
    assert torch.allclose(subject.last_logits(tokens).log_softmax(-1), right, atol=1e-4)


# Vocabularies.


@pytest.mark.parametrize("name", ["Llama", "Llama, tied", "GPT-2", "NeoX"])
@pytest.mark.parametrize("more", [7, -7])
def test_embeddings_that_were_resized_after_the_configuration_are_said_so(tmp_path, name, more):
    model: Any = random_model(tiny_config(name))
    n_tokens = model.config.vocab_size
    model.resize_token_embeddings(n_tokens + max(more, 0))
    folder = save_with_tokenizer(model, tmp_path / "model")
    configure(folder, vocab_size=n_tokens - min(more, 0))
    message = refused(folder)
    if name == "GPT-2":
        assert "wte.weight" in message and "do not fit its config.json" in message
    else:
        assert f"set vocab_size to {n_tokens + max(more, 0)} there" in message and "were resized" in message


@pytest.mark.parametrize("name", ["Llama", "GPT-2"])
def test_embeddings_may_be_more_than_the_tokenizers_tokens(tmp_path, name):
    """Padded to a multiple of 64, as Qwen's and Phi's are."""
    model: Any = random_model(tiny_config(name))
    model.resize_token_embeddings(pad_to_multiple_of=64)
    subject = attempt(save_with_tokenizer(model, tmp_path / "model"))
    assert len(subject.tokenizer) < model.config.vocab_size == subject.last_logits(torch.arange(5, 9)[None]).shape[-1]


@pytest.mark.parametrize("name", ["Llama", "GPT-2"])
def test_embeddings_may_not_be_fewer(tmp_path, name):
    model: Any = random_model(tiny_config(name))
    model.resize_token_embeddings(model.config.vocab_size - 7)
    assert "restore the two from one model" in refused(save_with_tokenizer(model, tmp_path / "model"))


def test_weights_of_another_shape_are_named_with_both(llama):
    configure(llama, intermediate_size=96)
    message = refused(llama)
    assert "down_proj.weight is 32 × 64 in the file, and config.json makes it 32 × 96, and 8 more" in message


# Pickles, and other people's code.


@pytest.mark.parametrize("folder_name", ["model", "it's my model"])
def test_pickles_are_not_loaded_and_the_command_in_the_sentence_converts_them(tmp_path, monkeypatch, folder_name):
    model: Any = random_model(tiny_config("Llama"))
    folder = save_with_tokenizer(model, tmp_path / folder_name)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle is loaded"))
        message = refused(folder)
    assert "only as pickles, which can run code" in message
    command = message.split("`")[1]
    assert command.startswith("python -c ")
    word = subprocess.run(["sh", "-c", command.replace("python -c", "printf %s", 1)], capture_output=True, text=True).stdout
    exec(word, {})
    attempt(folder)
    loaded = load_model(folder, torch.float32).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoConfig": "configuration_mine.MyConfig", "AutoModelForCausalLM": "modeling_mine.MyForCausalLM"},
        {"AutoModelForCausalLM": "owner/other--modeling_mine.MyForCausalLM"},
        {"AutoConfig": "configuration_mine.MyConfig"},
    ],
    ids=["both", "of another repository", "a configuration"],
)
@pytest.mark.parametrize("model_type", ["llama", "mine"])
def test_code_that_comes_with_the_weights_is_not_run(llama, auto_map, model_type):
    configure(llama, auto_map=auto_map, model_type=model_type, architectures=["MyForCausalLM"])
    for name in ("configuration_mine.py", "modeling_mine.py"):
        (llama / name).write_text("raise SystemExit('it is run')")
    message = refused(llama)
    assert "asks for code that comes with the weights (auto_map: " in message and "no such code is run" in message


def test_code_whose_class_transformers_has_is_passed_over(llama):
    configure(llama, auto_map={"AutoConfig": "configuration_llama.LlamaConfig", "AutoModelForCausalLM": "m.LlamaForCausalLM"})
    (llama / "configuration_llama.py").write_text("raise SystemExit('it is run')")
    attempt(llama)


def test_a_tokenizer_of_other_peoples_code_is_refused(llama):
    (llama / "tokenizer.json").unlink()
    path = llama / "tokenizer_config.json"
    said = {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_mine.MyTokenizer", None]}}
    path.write_text(json.dumps(said))
    (llama / "tokenization_mine.py").write_text("raise SystemExit('it is run')")
    assert "the tokenizer in" in refused(llama)


# Encoders.


@pytest.mark.parametrize("kind", ["BertConfig", "RobertaConfig", "ElectraConfig", "RoFormerConfig", "MegatronBertConfig"])
def test_an_encoder_is_refused(tmp_path, kind):
    """transformers makes a causal language model of each, with a warning."""
    n_tokens = tiny_config("Llama").vocab_size
    config = getattr(transformers, kind)(vocab_size=n_tokens, max_position_embeddings=128, embedding_size=32, **SMALL)
    folder = save_with_tokenizer(random_model(config), tmp_path / "model")
    message = refused(folder)
    assert "is an encoder (" in message and "depend on later tokens" in message


@pytest.mark.parametrize("kind", ["BertConfig", "RoFormerConfig"])
def test_the_same_as_a_decoder_is_one(tmp_path, kind):
    n_tokens = tiny_config("Llama").vocab_size
    config = getattr(transformers, kind)(
        vocab_size=n_tokens, max_position_embeddings=128, embedding_size=32, is_decoder=True, **SMALL
    )
    folder = save_with_tokenizer(random_model(config), tmp_path / "model")
    make_empty(folder, load_config(folder))
    load_model(folder, torch.float32)


@pytest.mark.parametrize("kind", ["T5Config", "BartConfig", "MarianConfig"])
def test_an_encoder_with_a_decoder_is_refused(tmp_path, kind):
    config = getattr(transformers, kind)(vocab_size=tiny_config("Llama").vocab_size, d_model=32, num_layers=1, encoder_layers=1)
    folder = tmp_path / "model"
    config.save_pretrained(folder)
    save_file({"x": torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    for path in EMBEDDED["mini"].glob("tokenizer*"):
        shutil.copy(path, folder / path.name)
    assert "is an encoder with a decoder (" in refused(folder)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_decoder_is_taken_for_an_encoder(tmp_path, name):
    config = tiny_config(name)
    config.save_pretrained(tmp_path)
    make_empty(tmp_path, AutoConfig.from_pretrained(tmp_path))
    refuse_looking_ahead(tmp_path, AutoModelForCausalLM.from_config(config).eval())


# Files.


def test_files_of_another_model_beside_the_shards_change_nothing(tmp_path):
    model: Any = random_model(tiny_config("Llama, tied"))
    folder = save_with_tokenizer(model, tmp_path / "model", max_shard_size="20KB")
    torch.save({"x": torch.ones(1)}, folder / "pytorch_model.bin")
    assert len(find_folder(str(folder)).weights) > 2
    loaded = load_model(folder, torch.float32).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in model.state_dict().items())
    assert "lm_head.weight" not in {key for file in folder.glob("*.safetensors") for key in load_file(file)}


def test_what_is_read_of_a_folder_runs_nothing(llama, monkeypatch):
    configure(llama, auto_map={"AutoModelForCausalLM": "modeling_mine.MyForCausalLM"})
    with pytest.raises(SubjectError, match="no such code is run"):
        inspect_folder("x", llama, "made up")
