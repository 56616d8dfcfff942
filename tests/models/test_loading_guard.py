"""Loading installs nothing and downloads nothing, whatever the libraries try; afterwards everything is as before."""

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download

from circuit_claims.models.loading_guard import Blocked, nothing_installed_or_downloaded
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.find import choose, find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.hub_caches import COMMIT, put_in_cache
from tests.support.tiny_configurations import random_model, save_with_tokenizer, tiny_config

PIP = [sys.executable, "-m", "pip", "install"]
INSTALLS: dict[str, Callable[[], Any]] = {
    "python -m pip": lambda: subprocess.check_call([*PIP, "torchvision", "-q"]),
    "python -mpip": lambda: subprocess.run([sys.executable, "-mpip", "install", "torchvision"], check=True),
    "pip": lambda: subprocess.run(["pip", "install", "-q", "torchvision"], check=False),
    "pip3.11, by its path": lambda: subprocess.Popen(["/usr/bin/pip3.11", "install", "torchvision"]),
    "uv": lambda: subprocess.check_output(["uv", "pip", "install", "torchvision", "-q"]),
    "conda": lambda: subprocess.call(args=["conda", "install", "-y", "torchvision"]),
    "a shell": lambda: subprocess.run("cd . && pip install torchvision", shell=True),
    "a shell of one's own": lambda: subprocess.run(["bash", "-c", "pip install torchvision"]),
    "sudo": lambda: subprocess.run(["sudo", "env", "A=1", "apt-get", "install", "-y", "torchvision"]),
    "os.system": lambda: os.system("pip install torchvision"),
    "os.posix_spawn": lambda: os.posix_spawn(sys.executable, [*PIP, "torchvision"], {}),
}


def suppressed(run: Callable[[], Any]) -> None:
    """As TransformerLens does: whatever happens, go on."""
    try:
        run()
    except Exception:
        return


@pytest.fixture(autouse=True)
def never_really(monkeypatch):
    """Where the guard fails, a test must not install anything either."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")


@pytest.mark.parametrize("hidden", [False, True], ids=["raised", "hidden"])
@pytest.mark.parametrize("how", INSTALLS)
def test_an_installation_is_not_run_and_is_a_sentence_though_a_library_hides_it(how, hidden):
    with pytest.raises(SubjectError) as caught, nothing_installed_or_downloaded("gemma"):
        suppressed(INSTALLS[how]) if hidden else INSTALLS[how]()
    expected = "loading gemma wants the package torchvision, which is not installed, and loading installs nothing"
    assert str(caught.value) == f"{expected}: install torchvision yourself"


def test_pip_is_not_imported_either():
    with pytest.raises(SubjectError, match="wants to install packages"), nothing_installed_or_downloaded("gemma"):
        suppressed(lambda: importlib.import_module("pip"))
    assert importlib.import_module("pip").__version__, "afterwards it is"


@pytest.mark.parametrize("command", ["git clone https://x/y", "curl -O https://x/y", "env A=1 wget https://x/y"])
def test_programs_that_fetch_files_are_not_started(command):
    with nothing_installed_or_downloaded("gemma"), pytest.raises(Blocked):
        subprocess.run(command.split(), check=True)


def test_other_programs_are():
    with nothing_installed_or_downloaded("gemma"):
        done = subprocess.run([sys.executable, "-c", "print('pip')"], capture_output=True, text=True, check=True)
        assert os.system("exit 3") >> 8 == 3
    assert done.stdout == "pip\n"


def test_no_connection_leaves_this_machine():
    with socket.socket() as server, nothing_installed_or_downloaded("gemma"):
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
        with socket.socket() as client:
            for connect in (client.connect, client.connect_ex):
                with pytest.raises(Blocked):
                    connect(("192.0.2.1", 443))
        with pytest.raises(Blocked):
            socket.create_connection(("huggingface.co", 443), timeout=1)


def test_the_hub_is_offline_within_and_as_before_afterwards(monkeypatch, network):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    before = subprocess.Popen.__init__, os.system, socket.socket.connect, socket.getaddrinfo, list(sys.meta_path)
    with nothing_installed_or_downloaded("gemma"):
        assert constants.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
        with pytest.raises(Exception, match="cache"):
            hf_hub_download("owner/model-that-nobody-has", "config.json")
    assert not network
    assert not constants.is_offline_mode() and "HF_HUB_OFFLINE" not in os.environ
    assert before == (subprocess.Popen.__init__, os.system, socket.socket.connect, socket.getaddrinfo, list(sys.meta_path))


def test_an_error_of_loading_stays_what_it_is_and_leaves_nothing_behind():
    system = os.system
    with pytest.raises(ZeroDivisionError), nothing_installed_or_downloaded("gemma"):
        _ = 1 / 0
    assert os.system is system


@pytest.mark.parametrize("where", ["the tokenizer", "the model"])
def test_a_library_that_installs_while_it_loads_a_subject_is_stopped(monkeypatch, where):
    """As a stub of each does here."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    owner, name = (AutoTokenizer, "from_pretrained") if where == "the tokenizer" else (TransformerBridge, "boot_transformers")
    loads = getattr(owner, name)

    def installing(*args: Any, **options: Any) -> Any:
        suppressed(INSTALLS["python -m pip"])
        return loads(*args, **options)

    monkeypatch.setattr(owner, name, installing)
    with pytest.raises(SubjectError, match="loading mini wants the package torchvision"):
        Subject(prepare(Settings("mini", device="cpu")))


# A snapshot of the hub that is there in part.


@pytest.fixture
def half(cache, tmp_path) -> Path:
    """One of several shards has not come."""
    folder = save_with_tokenizer(random_model(tiny_config("Llama")), tmp_path / "model", max_shard_size="20KB")
    lost = sorted(folder.glob("*.safetensors"))[1]
    return put_in_cache(cache, "owner/half", folder, without=(lost.name,))


def test_a_download_that_was_broken_off_is_taken_up_again(half, hub, tmp_path):
    whole = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    commit = hub.add("owner/half", whole, commits=[COMMIT])[0]
    assert find_folder("owner/half").path == half and half.name == commit
    lost = sorted(name for name in whole if name.endswith(".safetensors"))[1]
    assert hub.files_asked() == [lost], "and nothing that was there"
    hub.asked.clear()
    assert find_folder("owner/half").path == half and not hub.asked, "once it is whole, nobody is asked"


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "unreachable"])
def test_where_it_cannot_be_taken_up_again_that_is_said(half, network, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(SubjectError) as caught:
        find_folder("owner/half")
    message = str(caught.value)
    assert "only a part of owner/half is in the local cache" in message and "connect once to finish the download" in message
    assert bool(network) is not offline


def test_auto_does_not_take_it(cache, tmp_path):
    folder = save_with_tokenizer(random_model(tiny_config("Llama")), tmp_path / "model", max_shard_size="20KB")
    put_in_cache(cache, "gpt2", folder, without=(sorted(folder.glob("*.safetensors"))[0].name,))
    assert choose("auto")[0] == "mini"
