"""A wrong subject is refused in one sentence that says what to do, as a usage error, before any claim runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from huggingface_hub import constants

from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.find import choose, find_folder
from circuit_claims.subjects.subject import Prepared, Settings, Subject, prepare
from tests.support.claim_projects import PLUGINS
from tests.support.hub_caches import put_in_cache
from tests.support.tiny_models import TOKENIZER_FILES, save_tiny_card, save_tiny_gpt2

ROOT = Path(__file__).parents[2]
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16}
USAGE_ERROR = 4

#: Neither may run: the first needs no subject, and stands before the one that does.
CLAIMS = '''
from pathlib import Path

def test_needs_nothing():
    """Nothing is needed."""
    Path(__file__).with_name("ran").touch()

def test_needs_the_subject(subject):
    """The subject is needed."""
    Path(__file__).with_name("ran").touch()
'''


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A subject with nothing wrong: a folder and its card."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_gpt2(folder, **SHAPE)
    card = save_tiny_card(folder.parent / "tiny.toml", n_layer=SHAPE["n_layer"], n_head=SHAPE["n_head"])
    return SimpleNamespace(folder=folder, card=str(card))


@pytest.fixture
def copy(tiny: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the good folder, to break one thing in."""
    return Path(shutil.copytree(tiny.folder, tmp_path / "copy"))


def refusal(attempt: Callable[[], Any]) -> str:
    """The message with which something is refused: one line, which says what is wrong and then what to do."""
    with pytest.raises(SubjectError) as caught:
        attempt()
    message = str(caught.value)
    assert "\n" not in message and message.strip() == message
    wrong, colon, todo = message.rpartition(": ")
    assert wrong and colon and len(todo.split()) >= 3, f"{message!r} does not say what to do"
    return message


def change_config(folder: Path, **changes: Any) -> None:
    """Set or, with None, remove keys of a folder's config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def truncate(path: Path) -> None:
    """Cut a file's last kilobyte off."""
    path.write_bytes(path.read_bytes()[:-1000])


def make_pickled(folder: Path) -> None:
    """Leave a folder with pickled weights alone."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BROKEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json", "name a folder"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON", "restore"),
    "config is not text": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "cannot be read", "restore"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "names no model_type", "restore"),
    "no model_type": (lambda folder: change_config(folder, model_type=None), "names no model_type", "restore"),
    "pickled weights": (make_pickled, "only as pickles", "save them as safetensors"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights", "save them as safetensors"),
    "truncated weights": (lambda folder: truncate(folder / "model.safetensors"), "is not a whole safetensors", "again"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "is not a whole safetensors", "again"),
    "other shape": (lambda folder: change_config(folder, n_layer=3), "2 layers and 2 heads", "--card"),
    "no tokenizer.json": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer", "beside the model"),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer", "beside the model"),
    "no tokenizer": (
        lambda folder: [(folder / name).unlink() for name in TOKENIZER_FILES],
        "the tokenizer in",
        "beside the model",
    ),
}


def prepared(tiny: SimpleNamespace, **settings: Any) -> Prepared:
    """The good subject, prepared with other settings."""
    return prepare(Settings(**{"name": str(tiny.folder), "card": tiny.card, "device": "cpu"} | settings))


# The files.


def test_the_subject_that_the_others_are_broken_copies_of_is_accepted(tiny):
    found = prepared(tiny)
    assert found.card.name == "tiny" and found.folder.path == tiny.folder and len(found.names) == 99


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_folder_is_refused_in_one_sentence(tiny, copy, broken):
    breaking, wrong, todo = BROKEN[broken]
    breaking(copy)
    message = refusal(lambda: prepared(tiny, name=str(copy)))
    assert wrong in message and todo in message
    assert str(copy) in message or copy.name in message, "the sentence names the folder"


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "some/deep/folder"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(network, name):
    message = refusal(lambda: prepare(Settings(name)))
    assert f"there is no folder {name}" in message and "check the path" in message
    assert not network


def test_a_file_is_not_a_subject(tiny, copy):
    message = refusal(lambda: prepared(tiny, name=str(copy / "model.safetensors")))
    assert "is a file" in message and "name the folder" in message


@pytest.mark.parametrize("name", ["~nobody-of-that-name/model", "x" * 300, "two words", "a:b"])
def test_a_name_that_can_be_neither_a_folder_nor_a_hub_id_is_refused(network, name):
    refusal(lambda: prepare(Settings(name, card="gpt2-small")))
    assert not network


# Weights against config: whatever is found, and whenever, it is found before a claim runs.


def make_deeper(folder: Path) -> None:
    """Weights of one layer more than the configuration says."""
    config = (folder / "config.json").read_text()
    save_tiny_gpt2(folder, **SHAPE | {"n_layer": 3})
    (folder / "config.json").write_text(config)


def make_shallower(folder: Path) -> None:
    """Weights of one layer fewer than the configuration says."""
    config = (folder / "config.json").read_text()
    save_tiny_gpt2(folder, **SHAPE | {"n_layer": 1})
    (folder / "config.json").write_text(config)


MISFIT: dict[str, Callable[[Path], None]] = {
    "wider": lambda folder: change_config(folder, n_embd=32),
    "other vocabulary": lambda folder: change_config(folder, vocab_size=1000),
    "one layer too few": make_shallower,
    "one layer too many": make_deeper,
}


@pytest.mark.parametrize("misfit", MISFIT)
def test_weights_that_do_not_fit_the_config_are_refused_in_one_sentence(tiny, copy, misfit):
    MISFIT[misfit](copy)
    message = refusal(lambda: Subject(prepared(tiny, name=str(copy))))
    assert str(copy) in message and "config.json" in message


def test_an_architecture_that_nobody_knows_is_refused_in_one_sentence(tiny, copy):
    change_config(copy, model_type="nonesuch")
    assert "nonesuch" in refusal(lambda: Subject(prepared(tiny, name=str(copy))))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tiny, copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["Zebedee"] = len(tokenizer["model"]["vocab"])
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "tokenizer" in refusal(lambda: Subject(prepared(tiny, name=str(copy))))


# The card.


def test_a_card_of_another_shape_is_refused_with_both_shapes(tiny):
    message = refusal(lambda: prepared(tiny, card="gpt2-small"))
    assert "12 layers and 12 heads" in message and "has 2 and 2" in message and "--card" in message


@pytest.mark.parametrize(
    ("name", "says"), [("nonesuch", "no card 'nonesuch'"), ("nowhere/card.toml", "no file at 'nowhere/card.toml'")]
)
def test_an_unknown_card_is_refused_with_those_there_are(tiny, name, says):
    message = refusal(lambda: prepared(tiny, card=name))
    assert says in message and "gpt2-small" in message


def test_a_card_that_cannot_be_read_is_refused(tiny, tmp_path):
    (tmp_path / "card.toml").write_text("not TOML")
    assert "mend the file" in refusal(lambda: prepared(tiny, card=str(tmp_path / "card.toml")))


# The device and its memory.


@pytest.mark.parametrize("name", ["toaster", "", "cuda:99", "meta", "vulkan"])
def test_a_device_that_is_not_here_is_refused(tiny, name):
    message = refusal(lambda: prepared(tiny, device=name))
    assert name in message and "cpu" in message


def test_a_model_that_does_not_fit_into_memory_is_refused_with_both_sizes(tiny, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=400_000_000))
    message = refusal(lambda: prepared(tiny))
    assert "needs about 0.5 GB on cpu and 0.4 GB are free" in message and "--dtype bfloat16" in message


def test_a_model_that_just_fits_into_memory_is_accepted(tiny, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=600_000_000))
    assert prepared(tiny).device.type == "cpu"


# The hub and its cache; no test reaches a network.


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "unreachable"])
def test_a_hub_model_that_is_not_in_the_cache_is_refused(cache, network, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    message = refusal(lambda: prepare(Settings("gpt2")))
    assert "not in the local cache" in message and "--subject mini" in message
    assert bool(network) is not offline, "offline, no connection is tried; else it is"


def test_auto_takes_the_embedded_model_where_the_cache_is_empty(cache, network):
    name, remark = choose("auto")
    assert name == "mini" and "--subject gpt2" in remark
    assert not network


def test_auto_takes_gpt2_where_the_cache_has_it_and_needs_no_network(cache, network, tiny):
    snapshot = put_in_cache(cache, "openai-community/gpt2", tiny.folder)
    name, remark = choose("auto")
    assert name == "gpt2" and "--subject mini" in remark
    assert find_folder("gpt2").path == snapshot
    assert not network


def test_gpt2_is_found_in_the_cache_under_its_short_name_too(cache, network, tiny):
    """`from_pretrained("gpt2")` keeps it there."""
    snapshot = put_in_cache(cache, "gpt2", tiny.folder)
    assert choose("auto")[0] == "gpt2"
    assert find_folder("gpt2").path == snapshot
    assert not network


@pytest.mark.parametrize("missing", ["config.json", "*.safetensors", "tokenizer*"])
def test_auto_does_not_take_a_snapshot_that_is_not_complete(cache, tiny, missing):
    put_in_cache(cache, "openai-community/gpt2", tiny.folder, without=(missing,))
    assert choose("auto")[0] == "mini"


# Whole runs: the exit code, and that no claim has run.


@pytest.fixture(scope="module")
def bridge() -> None:
    """Import TransformerLens before an inner run does: whatever that is the first to import, is forgotten with it."""
    import transformer_lens.model_bridge  # noqa: F401


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with two claims, of which one asks for the subject."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider")
    pytester.makeconftest(PLUGINS)
    (pytester.path / "claims" / "demo").mkdir(parents=True)
    (pytester.path / "claims" / "demo" / "test_chapter.py").write_text(CLAIMS)
    return pytester


def run(project: pytest.Pytester, folder: Path, card: str, *arguments: str) -> pytest.RunResult:
    """Run the claims on a folder. The equals sign keeps pytest from taking the folder for one of tests."""
    return project.runpytest_inprocess("claims", f"--subject={folder}", f"--card={card}", *arguments)


def assert_refused_before_any_claim(project: pytest.Pytester, result: pytest.RunResult, sentence: str) -> None:
    """A usage error of one line, and no claim has run."""
    text = "\n".join([*result.outlines, *result.errlines])
    assert result.ret == USAGE_ERROR, text
    errors = [line for line in text.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 1 and sentence in errors[0]
    assert not re.search(r"Traceback|INTERNALERROR|^E  |\.py:\d+", text, re.MULTILINE), text
    assert not list(project.path.rglob("ran"))


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_a_wrong_subject_is_a_usage_error_before_any_claim_runs(project, tiny, copy, arguments):
    truncate(copy / "model.safetensors")
    result = run(project, copy, tiny.card, *arguments)
    assert_refused_before_any_claim(project, result, "is not a whole safetensors file")


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_a_refused_run_leaves_the_report_of_the_former_run_as_it_was(project, tiny, copy, arguments):
    former = project.path / "report" / "claims.jsonl"
    former.parent.mkdir()
    former.write_text("of the former run")
    truncate(copy / "model.safetensors")
    run(project, copy, tiny.card, "--report-dir", "report", *arguments)
    assert former.read_text() == "of the former run"


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_weights_that_do_not_fit_are_a_usage_error_before_any_claim_runs(bridge, project, tiny, copy, arguments):
    change_config(copy, n_embd=32)
    result = run(project, copy, tiny.card, *arguments)
    assert_refused_before_any_claim(project, result, "config.json")


@pytest.mark.parametrize("name", ["~nobody-of-that-name/model", "x" * 300], ids=["unknown home", "too long"])
def test_a_name_that_cannot_be_a_folder_is_a_usage_error_without_a_card_too(project, cache, network, name):
    result = project.runpytest_inprocess("claims", f"--subject={name}")
    assert_refused_before_any_claim(project, result, name[:60])
    assert not network


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--prompts", "29"), "--prompts must be at least 30"),
        (("--prompts", "120", "--max-prompts", "60"), "--max-prompts must not be below --prompts"),
        (("--seed", "-1"), "--seed must not be negative"),
        (("--max-memory", "0"), "--max-memory must be above 0 and finite"),
        (("--prompts", "2", "-n", "2"), "--prompts must be at least 30"),
    ],
    ids=["few prompts", "low budget", "negative seed", "no memory", "few prompts, two workers"],
)
def test_a_number_that_means_nothing_is_a_usage_error(project, tiny, arguments, sentence):
    result = run(project, tiny.folder, tiny.card, *arguments)
    assert_refused_before_any_claim(project, result, sentence)


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_a_card_that_calls_an_unknown_claim_known_false_is_a_usage_error(project, tiny, tmp_path, arguments):
    more = '[known_false]\n"demo/chapter/nonesuch" = "a reason"'
    card = save_tiny_card(tmp_path / "card.toml", n_layer=2, n_head=2, more=more)
    result = run(project, tiny.folder, str(card), *arguments)
    assert_refused_before_any_claim(project, result, "'demo/chapter/nonesuch'")


def test_the_real_suite_refuses_an_uncached_hub_model_without_trying_the_network(tmp_path):
    (tmp_path / "no_network.py").write_text(
        "import pathlib, socket\n"
        "def unreachable(*arguments, **more):\n"
        "    pathlib.Path(__file__).with_name('tried').touch()\n"
        "    raise OSError('no network in tests')\n"
        "socket.socket.connect = socket.getaddrinfo = unreachable\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTEST_", "COV_"))}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-p", "no_network", "-p", "no:cacheprovider", "claims/ioi/test_role_swaps.py"]
    command += ["--subject", "gpt2", "--report-dir", str(tmp_path / "report")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == USAGE_ERROR, done.stdout + done.stderr
    assert "not in the local cache" in done.stdout + done.stderr and "no tests ran" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "tried").exists()
