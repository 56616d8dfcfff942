"""The cache of models that are written by code: what goes wrong there is one sentence, and nothing half-written stays."""

import errno
import os
from pathlib import Path

import pytest
import safetensors
import safetensors.torch

from circuit_claims.controls.names import control_folder
from circuit_claims.models import disk_cache as cache_module
from circuit_claims.models.disk_cache import cache, kept
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.find import find_folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(scratch: Path) -> None:
    (scratch / "file").write_text("whole")


def refused(name="planted"):
    with pytest.raises(SubjectError) as error:
        control_folder(name, find_folder)
    said = str(error.value)
    assert "\n" not in said and said.startswith(f"{name} cannot be written to the cache (") and "XDG_CACHE_HOME" in said
    return said


@pytest.mark.parametrize("name", ["planted", "random", "random:mini", "shuffled:mini"])
def test_a_full_disk_is_one_sentence(home, monkeypatch, name):
    """As safetensors says it: an error of its own, which is no OSError."""

    def full(tensors, filename, metadata=None):
        Path(filename).write_bytes(b"half of it")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for module in ("circuit_claims.controls.saving", "circuit_claims.controls.shuffled", "safetensors.torch"):
        monkeypatch.setattr(f"{module}.save_file", full)
    assert "No space left on device" in refused(name)
    assert list(cache().iterdir()) == []


def test_a_disk_that_fills_up_before_the_weights_is_one_sentence(home, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("circuit_claims.controls.saving.save_tokenizer", full)
    monkeypatch.setattr("circuit_claims.controls.saving.save_file", lambda *_, **__: None)
    assert os.strerror(errno.ENOSPC) in refused()
    assert list(cache().iterdir()) == []


def test_a_cache_that_is_a_file_is_one_sentence(home):
    home.write_text("in the way")
    refused()
    assert home.read_text() == "in the way"


def test_a_cache_that_may_only_be_read_is_one_sentence(home, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", read_only)
    assert os.strerror(errno.EROFS) in refused()


def test_without_a_home_it_is_one_sentence(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert "home directory" in refused()


def test_what_is_there_is_found_in_a_cache_that_may_only_be_read(home, monkeypatch):
    folder = kept("model", whole)

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(cache_module.os, "utime", read_only)
    assert (kept("model", read_only) / "file").read_text() == "whole" and folder.parent == cache()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_the_writing_leaves_nothing(home, error):
    def stops(scratch):
        (scratch / "file").write_text("half")
        raise error

    with pytest.raises(error):
        kept("model", stops)
    assert list(cache().iterdir()) == []
