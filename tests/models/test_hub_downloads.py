"""Hub models, asked of a hub on loopback by the hub's own client: what comes, what is said, and when nobody is asked."""

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load, load_file, save

from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.faithful_boot import load_model
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.hub_server import LARGE, Cut, Hub
from tests.support.tiny_configurations import random_model, save_with_tokenizer, tiny_config
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 32}
#: The client writes what has come to the disk in pieces of this size; of less, nothing is kept.
PIECE = constants.DOWNLOAD_CHUNK_SIZE


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny model."""
    return files_of(save_tiny_gpt2(tmp_path_factory.mktemp("model") / "tiny", **SHAPE))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One whose weights lie in several files with an index."""
    folder = tmp_path_factory.mktemp("sharded") / "tiny"
    return files_of(save_with_tokenizer(random_model(tiny_config("Llama")), folder, max_shard_size="20KB"))


def refusal(call: Callable[[], Any]) -> str:
    """The one sentence that this ends with."""
    with pytest.raises(SubjectError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and not message.endswith("."), message
    return message


def there(cache: Path) -> set[str]:
    """The names of the files that are in the cache, whole or not."""
    return {path.name for path in cache.rglob("snapshots/*/*")} | {path.name for path in cache.rglob("*.incomplete")}


def test_the_first_run_downloads_what_is_loaded_and_the_second_asks_nobody(hub, cache, model, capfd):
    more = {"README.md": b"hello", "onnx/model.safetensors": b"no", "pytorch_model.bin": b"no"}
    (commit,) = hub.add("owner/tiny", model | more)
    found = find_folder("owner/tiny")
    assert there(cache) == set(model) == {path.name for path in found.path.iterdir()}
    assert files_of(found.path) == model, "they are what the hub has"
    assert (found.name, found.source) == ("owner/tiny", f"hub owner/tiny, commit {commit}")
    said = capfd.readouterr()
    size = f"{len(model['model.safetensors']) / 1e6:.1f} MB"
    assert said.err == f"downloading owner/tiny from the hub once: {size}\n" and not said.out, "a bar is for terminals"
    hub.asked.clear()
    assert find_folder("owner/tiny") == found
    assert not hub.asked and not capfd.readouterr().err


def test_of_weights_in_several_formats_those_come_that_are_loaded(hub, cache, sharded):
    hub.add("owner/tiny", sharded | {"consolidated.safetensors": save({"a": torch.zeros(9)}), "pytorch_model.bin": b"a pickle"})
    found = find_folder("owner/tiny")
    assert len(found.weights) > 2 and there(cache) == set(sharded)
    assert "consolidated.safetensors" not in hub.files_asked() and "pytorch_model.bin" not in hub.files_asked()


def test_a_single_file_goes_before_an_index_as_it_does_in_transformers(hub, cache, model, sharded):
    shards = {name: content for name, content in sharded.items() if name.startswith("model")}
    hub.add("owner/tiny", shards | model)
    assert [path.name for path in find_folder("owner/tiny").weights] == ["model.safetensors"]
    assert not any("-of-" in name for name in there(cache))


def test_a_model_is_loaded_from_the_cache_though_the_hub_is_gone(hub, model, tmp_path):
    """As loading has no network, all files have to come before."""
    hub.add("owner/tiny", model)
    settings = Settings("owner/tiny", card=str(save_tiny_card(tmp_path / "card.toml", n_layer=2, n_head=2)), device="cpu")
    prepared = prepare(settings)
    hub.stop()
    first = Subject(prepared)
    assert first.facts()["subject"] == "owner/tiny"
    assert Subject(prepare(settings)).weights_sha256 == first.weights_sha256


def test_an_adapter_comes_with_the_revision_of_the_base_that_it_names(hub, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "made"))
    base, other = (save_tiny_gpt2(tmp_path / name, **SHAPE, seed=seed) for seed, name in enumerate(("base", "other")))
    adapted = get_peft_model(load_model(base, torch.float32), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    said = tmp_path / "adapter" / "adapter_config.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"base_model_name_or_path": "owner/base", "revision": "v1"}))
    hub.add("owner/adapter", files_of(tmp_path / "adapter") | {"optimizer.pt": b"a pickle"})
    commits = hub.add("owner/base", files_of(other), files_of(base), refs={"v1": 1})
    found = find_folder("owner/adapter")
    assert (
        found.name == "owner/adapter" and f"merged into owner/base@v1 (hub owner/base@v1, commit {commits[1]})" in found.source
    )
    assert {"adapter_model.safetensors", "model.safetensors"} <= there(cache) and "optimizer.pt" not in there(cache)
    hub.stop()
    assert find_folder("owner/adapter") == found


# The network.


def test_a_connection_that_is_cut_is_resumed_from_where_it_was(hub, cache, model):
    large = save({"wte.weight": torch.arange(PIECE / 4 * 2.5)})
    hub.add("owner/tiny", model | {"model.safetensors": large})
    hub.cuts["model.safetensors"] = Cut(after=PIECE * 2 + 1000, times=1)
    found = find_folder("owner/tiny")
    ranges = [asked.range for asked in hub.asked if asked.path.endswith("model.safetensors") and asked.method == "GET"]
    assert [wanted for wanted in ranges if wanted] == [f"bytes={PIECE * 2}-"]
    assert (found.path / "model.safetensors").read_bytes() == large


def test_a_download_that_breaks_off_is_a_sentence_and_the_next_run_fetches_what_has_not_come(hub, cache, model):
    hub.add("owner/tiny", model)
    hub.cuts["model.safetensors"] = Cut(after=1000, times=1, reset=True)
    message = refusal(lambda: find_folder("owner/tiny"))
    assert message.startswith("the download of owner/tiny was cut off (ReadError: ") and "run again" in message
    assert there(cache) == set(model) - {"model.safetensors"}, "nothing is there in part"
    hub.asked.clear()
    assert files_of(find_folder("owner/tiny").path) == model
    assert hub.files_asked() == ["model.safetensors"]


def test_a_shard_that_did_not_come_is_fetched_alone(hub, sharded):
    hub.add("owner/tiny", sharded)
    lost = sorted(name for name in sharded if name.endswith(".safetensors"))[1]
    hub.cuts[lost] = Cut(after=100, times=1, reset=True)
    assert "was cut off" in refusal(lambda: find_folder("owner/tiny"))
    hub.asked.clear()
    assert files_of(find_folder("owner/tiny").path) == sharded
    assert lost in hub.files_asked() and "tokenizer.json" not in hub.files_asked()


def test_what_from_pretrained_has_put_into_the_cache_is_whole(hub, cache, model):
    """It leaves there what it does not read; the hub's list of all files may have come with shards."""
    hub.add("owner/tiny", model | {"LICENSE.txt": b"yours", "training_args.json": b"{}", "vocab.json": b"{}"})
    found = find_folder("owner/tiny")
    for name in ("LICENSE.txt", "training_args.json", "vocab.json", "generation_config.json"):
        (found.path / name).unlink()
    hub.stop()
    assert find_folder("owner/tiny") == found


@pytest.mark.parametrize("lost", ["tokenizer_config.json", "model.safetensors"])
def test_a_part_of_a_model_is_not_taken_for_the_whole_where_the_hub_is_gone(hub, cache, model, lost):
    """The rest of it would be loaded as another model, or not at all."""
    hub.add("owner/tiny", model)
    find_folder("owner/tiny")
    next(cache.rglob(f"snapshots/*/{lost}")).unlink()
    hub.stop()
    message = refusal(lambda: find_folder("owner/tiny"))
    assert message.startswith(f"only a part of owner/tiny is in the local cache (it lacks {lost}), and the hub cannot be")
    assert message.endswith("connect once to finish the download")


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "gone"])
def test_without_a_network_a_whole_cache_does_and_none_is_a_sentence(hub, model, monkeypatch, offline):
    hub.add("owner/tiny", model)
    find_folder("owner/tiny")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    if not offline:
        hub.stop()
    assert files_of(find_folder("owner/tiny").path) == model
    message = refusal(lambda: find_folder("owner/other@v1"))
    assert message.startswith("owner/other@v1 is not in the local cache and the hub cannot be reached")
    assert ("HF_HUB_OFFLINE is set" in message) is offline and not hub.asked


def test_a_cache_that_cannot_be_written_is_a_sentence(hub, model, monkeypatch, tmp_path):
    hub.add("owner/tiny", model)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    message = refusal(lambda: find_folder("owner/tiny"))
    assert "cannot be written to the local cache" in message and "HF_HOME" in message and "cannot be reached" not in message


# What the hub says.


@pytest.mark.parametrize("token", ["", "hf_mine"], ids=["nobody", "somebody who has not accepted"])
def test_a_gated_repository_is_a_sentence(hub, cache, model, monkeypatch, token):
    hub.add("owner/gated", model, gated=True)
    monkeypatch.setenv("HF_TOKEN", token)
    message = refusal(lambda: find_folder("owner/gated"))
    assert message == "the hub wants you to accept the terms of owner/gated: do so there and log in with `hf auth login`"
    assert not there(cache)


def test_a_repository_that_is_not_there_is_a_sentence(hub):
    message = refusal(lambda: find_folder("owner/nix"))
    assert message.startswith("the hub has no model 'owner/nix', and there is no folder of that name: check the spelling")


@pytest.mark.parametrize("revision", ["v9", "refs/pr/7", "0" * 40])
def test_a_revision_that_is_not_there_is_a_sentence(hub, cache, model, revision):
    hub.add("owner/tiny", model)
    message = refusal(lambda: find_folder(f"owner/tiny@{revision}"))
    assert message.startswith(f"the hub's owner/tiny has no revision '{revision}': name one of its branches")
    assert not there(cache)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_answers_with_an_error_is_said_to_do_so(hub, model, status):
    hub.add("owner/tiny", model, broken=status)
    message = refusal(lambda: find_folder("owner/tiny"))
    assert message == f"the hub answers with an error when asked for owner/tiny ({status}): try again later"


def test_a_token_that_the_hub_refuses_is_a_sentence(hub, model, monkeypatch):
    """It need not say that the token is the reason."""
    hub.add("owner/tiny", model, broken=403)
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    message = refusal(lambda: find_folder("owner/tiny"))
    assert message.startswith("the hub refuses access to owner/tiny (403): log in anew with `hf auth login`")


def test_what_is_no_hub_is_said_to_be_none(hub, model, monkeypatch):
    """Such as the page of a network that wants a password first."""
    hub.add("owner/tiny", model, broken=200)
    message = refusal(lambda: find_folder("owner/tiny"))
    assert message.startswith(f"what answers at {hub.url} is not the hub") and "HF_ENDPOINT" in message


def test_a_token_goes_to_the_hub_alone(hub: Hub, model, monkeypatch):
    hub.add("owner/tiny", model | {"model.safetensors": save({"wte.weight": torch.zeros(LARGE)})})
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    find_folder("owner/tiny")
    tokens = {asked.path.startswith(("/api/", "/owner/")): asked.token for asked in hub.asked}
    assert tokens == {True: "Bearer hf_mine", False: ""}, "and not to where it sends one for large files"


# What the repository lacks.


@pytest.mark.parametrize(
    "has, sentence",
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "only as pickles, which can run code: "),
        (["tokenizer.json", "model.safetensors"], "has no config.json on the hub"),
        (["config.json", "tokenizer.json"], "has no weights as safetensors on the hub"),
        (["README.md", "b-Q8_0.gguf", "a.gguf"], "only as GGUF files on the hub: name one as owner/tiny:FILE, of a.gguf, b-Q"),
        (["config.json", "pytorch_model.bin", "a.gguf"], "name one as owner/tiny:FILE, of a.gguf"),
    ],
)
def test_a_repository_without_what_is_loaded_is_a_sentence_and_nothing_is_downloaded(hub, cache, model, has, sentence):
    hub.add("owner/tiny", {name: model.get(name, b"a file") for name in has})
    assert sentence in refusal(lambda: find_folder("owner/tiny"))
    assert not there(cache) and not hub.files_asked()


def test_the_command_that_converts_pickles_makes_the_model(hub, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = io.BytesIO()
    torch.save(load(model["model.safetensors"]), pickled)
    others = {name: content for name, content in model.items() if name != "model.safetensors"}
    hub.add("owner/tiny", {}, others | {"pytorch_model.bin": pickled.getvalue()}, refs={"v1": 1})
    message = refusal(lambda: find_folder("owner/tiny@v1"))
    assert not hub.files_asked()
    command = shlex.split(message.split("`")[1])
    assert command[:2] == ["python", "-c"] and message.endswith("and name the folder tiny")
    exec(command[2], {})
    made, there = load_file("tiny/model.safetensors"), load(model["model.safetensors"])
    assert made.keys() == there.keys() and all(torch.equal(made[name], there[name]) for name in made)
    assert prepare(Settings("tiny", card=str(save_tiny_card(tmp_path / "card.toml", n_layer=2, n_head=2)), device="cpu")).names


def test_an_index_that_names_a_file_which_the_hub_lacks_is_a_sentence(hub, sharded):
    lost = sorted(name for name in sharded if name.endswith(".safetensors"))[1]
    hub.add("owner/tiny", {name: content for name, content in sharded.items() if name != lost})
    for _ in range(2):
        message = refusal(lambda: find_folder("owner/tiny"))
        assert message.startswith(f"the index of owner/tiny names files of weights that the hub does not have ({lost})")


def test_files_whose_names_leave_the_folder_are_not_written(hub, cache, model):
    index = {"weight_map": {"wte.weight": "../../evil.safetensors"}}
    weights = {"evil.safetensors": b"evil", "../../evil.safetensors": b"evil", "../evil.json": b"{}"}
    hub.add("owner/tiny", model | {"model.safetensors.index.json": json.dumps(index).encode()} | weights)
    find_folder("owner/tiny")
    assert not list(cache.parent.rglob("evil*"))
