"""GGUF files: what is loaded is what was written, once, under the file's own checksum; what is wrong with a file is said."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from gguf import GGMLQuantizationType as Form
from gguf import RopeScalingType, dequantize, quantize
from transformers import AutoModelForCausalLM

from circuit_claims.models import gguf as gguf_module
from circuit_claims.models.disk_cache import cache
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.faithful_boot import load_model
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.claim_projects import ROOT
from tests.support.gguf_files import SHAPE, gguf_name, tiny_llama, write_gguf
from tests.support.tiny_models import save_tiny_card

TOKENS = torch.arange(20, 44)[None]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model():
    """What the files hold."""
    return tiny_llama()


def refused(file: Path) -> str:
    """The one sentence with which a file is refused; nothing stays of it in the cache."""
    with pytest.raises(SubjectError) as caught:
        find_folder(str(file))
    message = str(caught.value)
    wrong, colon, todo = message.rpartition(": ")
    assert "\n" not in message and wrong and colon and len(todo.split()) >= 3, message
    assert not cache().exists() or not list(cache().iterdir())
    return message


def log_probs(model) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits.log_softmax(-1)


# What is loaded.


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", [Form.F32, Form.F16, Form.BF16])
def test_the_weights_are_those_that_were_written(tmp_path, form, tied):
    model = tiny_llama(tied=tied)
    half = {Form.F16: torch.float16, Form.BF16: torch.bfloat16}.get(form, torch.float32)
    for weight in model.parameters():
        weight.data = weight.data.to(half).float()
    found = find_folder(str(write_gguf(tmp_path / "tiny.gguf", model, form)))
    loaded = load_model(found.path, torch.float32)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())
    assert loaded.dtype == torch.float32 and loaded.config.tie_word_embeddings is tied
    assert torch.equal(log_probs(loaded), log_probs(model))
    assert found.config["dtype"] == str(half).removeprefix("torch."), "the smallest that is exact"


@pytest.mark.parametrize("form", [Form.Q8_0, Form.Q4_0, Form.Q4_1, Form.Q5_0])
def test_quantised_weights_are_what_their_codes_say(tmp_path, model, form):
    """Each within a step of its block's scale of what was written; and as the package gguf undoes them, to the last bit."""
    found = find_folder(str(write_gguf(tmp_path / "tiny.gguf", model, form)))
    state = load_model(found.path, torch.float32).state_dict()
    steps = {Form.Q8_0: 127, Form.Q4_0: 8, Form.Q4_1: 7.5, Form.Q5_0: 16}[form]
    for name, weight in model.state_dict().items():
        if weight.ndim == 1:
            assert torch.equal(state[name], weight)
            continue
        largest = weight.view(-1, 32).abs().amax(-1, keepdim=True)
        assert ((state[name] - weight).view(-1, 32).abs() <= 1.01 * largest / steps).all(), name
        assert not torch.equal(state[name], weight)
        if "q_proj" not in name and "k_proj" not in name:
            undone = dequantize(quantize(weight.numpy(), form), form)
            assert np.array_equal(state[name].numpy(), undone), name
    assert found.source == f"GGUF file tiny.gguf, {form.name}"


def test_it_is_the_model_that_transformers_loads_by_itself(tmp_path, model):
    file = write_gguf(tmp_path / "tiny.gguf", model, Form.Q8_0)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).eval()
    ours = load_model(find_folder(str(file)).path, torch.float32)
    assert torch.equal(log_probs(ours), log_probs(alone)) and not torch.equal(log_probs(ours), log_probs(model))


def test_a_subject_bears_the_files_name_and_checksum(tmp_path, model):
    file = write_gguf(tmp_path / "my model.Q8_0.gguf", model, Form.Q8_0)
    card = save_tiny_card(tmp_path / "card.toml", n_layer=2, n_head=4)
    subject = Subject(prepare(Settings(str(file), card=str(card), device="cpu")))
    assert subject.name == "my model.Q8_0" and len(subject.names) > 60
    assert subject.facts()["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    ids = subject.tokenizer("Then, Mary and John went to", add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        direct = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).eval()(ids).logits
    off = subject.last_logits(ids).log_softmax(-1) - direct[:, -1].log_softmax(-1)
    assert off.abs().max() < 1e-4


def test_a_folder_with_one_gguf_is_that_file(tmp_path, model):
    (tmp_path / "folder").mkdir()
    file = write_gguf(tmp_path / "folder" / "tiny.GGUF".lower(), model)
    found, alone = find_folder(str(tmp_path / "folder")), find_folder(str(file))
    assert (found.name, alone.name) == ("folder", "tiny") and found.path == alone.path
    assert found.source == "folder folder, GGUF file tiny.gguf, F32" and found.sha256() == alone.sha256()


@pytest.mark.parametrize("name", ["sha256-0123abc", "TINY.GGUF", "my model (1).gguf", "ünï.gguf", "tiny"])
def test_a_file_is_known_by_how_it_begins(tmp_path, model, name):
    """ollama's have no ending."""
    found = find_folder(str(write_gguf(tmp_path / name, model)))
    assert torch.equal(log_probs(load_model(found.path, torch.float32)), log_probs(model)) and name in found.source


def test_of_several_one_must_be_named(tmp_path, model):
    (tmp_path / "folder").mkdir()
    first = write_gguf(tmp_path / "folder" / "a.gguf", model)
    shutil.copy(first, tmp_path / "folder" / "b.gguf")
    message = refused(tmp_path / "folder")
    assert "holds 2 GGUF files (a.gguf, b.gguf)" in message and "name one of them" in message


def test_a_folder_of_safetensors_is_not_read_from_a_gguf_beside_them(tmp_path, model):
    model.save_pretrained(tmp_path / "folder")
    write_gguf(tmp_path / "folder" / "tiny.gguf", tiny_llama(seed=1))
    assert find_folder(str(tmp_path / "folder")).path == tmp_path / "folder"


# Once.


def test_the_second_time_nothing_is_converted(tmp_path, model, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    first = find_folder(str(file))
    monkeypatch.setattr(gguf_module, "read_header", lambda file: pytest.fail("it is read again"))
    assert find_folder(str(file)).path == first.path
    (tmp_path / "elsewhere").mkdir()
    assert find_folder(str(shutil.move(file, tmp_path / "elsewhere"))).path == first.path


def test_another_file_of_the_same_name_is_converted(tmp_path, model):
    first = find_folder(str(write_gguf(tmp_path / "tiny.gguf", model)))
    second = find_folder(str(write_gguf(tmp_path / "tiny.gguf", tiny_llama(seed=1))))
    assert first.path != second.path and first.name == second.name


def test_a_kill_in_the_middle_leaves_nothing_that_is_used(tmp_path, model, home):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    code = (
        "import os, sys\n"
        "from circuit_claims.models import gguf\n"
        "def dies(config, state, folder, plain):\n"
        "    (folder / 'config.json').write_text('{')\n"
        "    os.kill(os.getpid(), 9)\n"
        "gguf._save = dies\n"
        "gguf.inspect_gguf('tiny', __import__('pathlib').Path(sys.argv[1]), 'x')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, timeout=120)
    assert done.returncode == -9 and [path.name for path in cache().iterdir() if not path.name.startswith(".")] == []
    loaded = load_model(find_folder(str(file)).path, torch.float32)
    assert torch.equal(log_probs(loaded), log_probs(model))


@pytest.mark.parametrize("what", ["tokenizer", "weights"])
def test_a_full_disk_is_one_sentence(tmp_path, model, monkeypatch, what):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kind = "PreTrainedModel" if what == "weights" else "PreTrainedTokenizerFast"
    monkeypatch.setattr(f"transformers.{kind}.save_pretrained", full)
    message = refused(write_gguf(tmp_path / "tiny.gguf", model))
    assert os.strerror(errno.ENOSPC) in message and "XDG_CACHE_HOME" in message


def test_too_little_memory_and_disk_are_said_before(tmp_path, model, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=400_000_000))
    assert "needs about 0.5 GB of memory and 0.4 GB are free" in refused(file)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=600_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "make room" in refused(file)


# Rotary positions.


def test_llama_3s_scaling_is_read_off_its_divisors(tmp_path):
    parameters = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
    parameters |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    scaled, plain = (tiny_llama(rope_parameters=p) for p in (parameters, {"rope_type": "default", "rope_theta": 500000.0}))
    divisors = (plain.model.rotary_emb.inv_freq / scaled.model.rotary_emb.inv_freq).numpy()
    assert divisors.max() == pytest.approx(32) and divisors.min() == pytest.approx(1)
    file = write_gguf(tmp_path / "tiny.gguf", scaled, change=lambda writer: writer.add_tensor("rope_freqs.weight", divisors))
    loaded = load_model(find_folder(str(file)).path, torch.float32)
    assert torch.allclose(log_probs(loaded), log_probs(scaled), atol=1e-6)
    assert not torch.allclose(log_probs(loaded), log_probs(plain), atol=1e-6)


def test_linear_scaling_is_read_and_others_are_refused(tmp_path, model):
    def scale(kind: RopeScalingType):
        return lambda writer: (writer.add_rope_scaling_type(kind), writer.add_rope_scaling_factor(2.0))

    linear = tiny_llama(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0})
    loaded = load_model(
        find_folder(str(write_gguf(tmp_path / "a.gguf", model, change=scale(RopeScalingType.LINEAR)))).path, torch.float32
    )
    assert torch.allclose(log_probs(loaded), log_probs(linear), atol=1e-6)
    shutil.rmtree(cache())
    assert "by 'yarn'" in refused(write_gguf(tmp_path / "b.gguf", model, change=scale(RopeScalingType.YARN)))
    odd = np.linspace(1, 3, 8, dtype=np.float32)
    file = write_gguf(tmp_path / "c.gguf", model, change=lambda writer: writer.add_tensor("rope_freqs.weight", odd))
    assert "as no Llama 3 does" in refused(file)


# Files that are wrong.


@pytest.mark.parametrize("share", [1e-9, 0.0005, 0.01, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_said_so(tmp_path, model, share):
    """Within the version, the fields, the tokens, the table of tensors, and their data."""
    file = write_gguf(tmp_path / "tiny.gguf", model)
    data = file.read_bytes()
    file.write_bytes(data[: 6 + int(share * len(data))])
    message = refused(file)
    assert "is not a whole GGUF file" in message and "download it again" in message


@pytest.mark.parametrize("data", [b"", b"GGU", b"PK\x03\x04 a zip", b"<!DOCTYPE html>"], ids=len)
def test_another_file_of_that_name_is_said_so(tmp_path, data):
    (tmp_path / "tiny.gguf").write_bytes(data)
    assert "is no GGUF file" in refused(tmp_path / "tiny.gguf")


def test_a_version_that_nobody_reads_is_said_so(tmp_path, model):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    data = file.read_bytes()
    file.write_bytes(data[:4] + (1).to_bytes(4, "little") + data[8:])
    assert "version 1 of GGUF, and versions 2 and 3 are read" in refused(file)


@pytest.mark.parametrize("architecture", ["nonesuch", "rwkv6", "bert"])
def test_an_architecture_that_transformers_does_not_know_is_named(tmp_path, model, architecture):
    message = refused(write_gguf(tmp_path / "tiny.gguf", model, architecture=architecture))
    assert repr(architecture) in message and "name the folder" in message


def test_an_encoder_and_decoder_is_no_causal_language_model(tmp_path, model):
    assert "'t5'" in refused(write_gguf(tmp_path / "tiny.gguf", model, architecture="t5"))


def test_a_form_of_weights_that_cannot_be_undone_is_named(tmp_path, model):
    codes = np.zeros((4, 292), dtype=np.uint8)
    file = write_gguf(tmp_path / "tiny.gguf", model, change=lambda w: w.add_tensor("x.weight", codes, raw_dtype=Form.Q8_K))
    message = refused(file)
    assert "x.weight" in message and "is kept as Q8_K, which cannot be turned back" in message


def test_a_form_of_weights_that_nobody_knows_is_refused(tmp_path, model):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    name = b"output_norm.weight"
    data = bytearray(file.read_bytes())
    place = data.index(name) + len(name) + 4 + 8  # the number of dimensions, and the one there is
    data[place : place + 4] = (250).to_bytes(4, "little")
    file.write_bytes(data)
    message = refused(file)
    assert "in a form that the package gguf does not know" in message and "250" in message


@pytest.mark.parametrize("by", ["name", "key"])
def test_a_part_of_a_split_file_is_said_so(tmp_path, model, by):
    name = "tiny-00001-of-00003.gguf" if by == "name" else "tiny.gguf"
    change = (lambda writer: None) if by == "name" else (lambda writer: writer.add_uint16("split.count", 3))
    message = refused(write_gguf(tmp_path / name, model, change=change))
    assert "one of 3 parts of a split GGUF" in message and "llama-gguf-split --merge" in message


def test_a_tensor_that_is_missing_or_of_another_shape_is_named(tmp_path, model):
    message = refused(write_gguf(tmp_path / "a.gguf", model, leave_out="blk.1.ffn_up.weight"))
    assert "model.layers.1.mlp.up_proj.weight" in message
    name = "blk.1.ffn_up.weight"
    wide = np.zeros((SHAPE["intermediate_size"] + 32, SHAPE["hidden_size"]), dtype=np.float32)
    file = write_gguf(tmp_path / "b.gguf", model, leave_out=name, change=lambda writer: writer.add_tensor(name, wide))
    assert "model.layers.1.mlp.up_proj.weight missing or of another shape" in refused(file)


def test_a_tensor_that_the_model_does_not_use_is_named(tmp_path, model):
    bias = np.zeros(SHAPE["hidden_size"], dtype=np.float32)
    file = write_gguf(tmp_path / "tiny.gguf", model, change=lambda writer: writer.add_tensor("blk.0.attn_q.bias", bias))
    assert "does not use blk.0.attn_q.bias" in refused(file)


def test_an_adapter_in_a_gguf_is_no_model(tmp_path, model):
    def adapter(writer):
        for fields in writer.kv_data:
            fields.pop("general.type", None)
        writer.add_type("adapter")

    assert "a GGUF of the type 'adapter'" in refused(write_gguf(tmp_path / "tiny.gguf", model, change=adapter))


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path, model, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", model)

    def closed(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", closed)
    assert "cannot be read (Permission denied)" in refused(file)


def test_to_know_where_subjects_lie_nothing_slow_is_imported():
    code = "import sys, circuit_claims.subjects.find; print({'torch', 'transformers', 'gguf', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr


def test_every_name_of_the_written_model_is_known():
    assert len({gguf_name(name) for name in tiny_llama().state_dict()}) == len(tiny_llama().state_dict())
