"""The hub's local cache as tests fill it, a hub on loopback that fills it, and a network that cannot be reached."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from tests.support.hub_server import Hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whatever tried to reach a network, which there is not."""
    tried: list[Any] = []

    def unreachable(*arguments: Any, **_: Any) -> None:
        tried.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    return tried


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty local cache of the hub."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on loopback that this process's `huggingface_hub` asks, and that fills the empty cache; nobody is logged in.

    What the client reads of the environment it reads when it is imported, into the constants that are set here.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as started:
        template = started.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {"ENDPOINT": started.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}.items():
            monkeypatch.setattr(constants, name, value)
        for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "AGENT_HARNESSES_PATH"):
            monkeypatch.setattr(constants, name, str(tmp_path / name))
        close_session()  # it knows the environment's proxies
        yield started
        close_session()


def put_in_cache(cache: Path, hub_id: str, source: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A snapshot of a model as the hub's client lays it out, and its folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(source, repository / "snapshots" / COMMIT, ignore=shutil.ignore_patterns(*without)))
