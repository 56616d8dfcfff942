"""What may follow a hub model's name: a revision, a GGUF file; and what a name means that could be a folder's, too."""

import shutil
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Form

from circuit_claims.models import gguf
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.card_choice import card_for
from circuit_claims.subjects.find import find_folder
from tests.support.gguf_files import tiny_llama, write_gguf
from tests.support.hub_caches import put_in_cache
from tests.support.tiny_models import save_tiny_gpt2

FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of two models of one shape, of different weights."""
    folder = tmp_path_factory.mktemp("versions")
    return [save_tiny_gpt2(folder / f"seed-{seed}", n_layer=2, n_head=2, n_embd=32, seed=seed) for seed in (0, 1)]


@pytest.fixture
def commits(hub, versions) -> list[str]:
    """Of a repository with a branch, a tag, and a branch whose name has a stroke."""
    files = [{name: (folder / name).read_bytes() for name in FILES} for folder in versions]
    refs = {"older": 1, "v1.0": 1, "refs/pr/1": 1}
    hub.add("openai-community/gpt2", *files, refs=refs)
    return list(hub.add("owner/tiny", *files, refs=refs))


@pytest.mark.parametrize("revision", ["older", "v1.0", "refs/pr/1", "the commit", "its beginning"])
def test_a_branch_a_tag_or_a_commit_is_downloaded_once(hub, commits, versions, revision):
    revision = {"the commit": commits[1], "its beginning": commits[1][:10]}.get(revision, revision)
    name = f"owner/tiny@{revision}"
    found = find_folder(name)
    assert found.sha256() == find_folder(str(versions[1])).sha256() != find_folder(str(versions[0])).sha256()
    assert found.name == name, "a row's subject is what was typed"
    said = f"hub owner/tiny@{revision}"
    assert found.source == (said if revision == commits[1] else f"{said}, commit {commits[1]}")
    hub.asked.clear()
    assert find_folder(name) == found and not hub.asked


def test_revisions_lie_beside_each_other_in_the_cache(hub, commits, versions):
    older, newer = find_folder("owner/tiny@older"), find_folder("owner/tiny")
    hub.stop()
    assert find_folder("owner/tiny@main").path == find_folder("owner/tiny").path == newer.path != older.path
    assert find_folder(f"owner/tiny@{commits[1]}").path == older.path, "a commit that came by its branch is there by itself"
    with pytest.raises(SubjectError, match=r"owner/tiny@v1\.0 is not in the local cache"):
        find_folder("owner/tiny@v1.0")


def test_short_names_take_revisions(hub, commits, versions):
    found = find_folder("gpt2@older")
    assert (found.name, found.sha256()) == ("gpt2@older", find_folder(str(versions[1])).sha256())
    assert found.source.startswith("hub openai-community/gpt2@older, commit ")
    assert find_folder("shuffled:owner/tiny@older").source == "owner/tiny@older with its heads at other places"


def test_a_revision_of_the_cache_of_from_pretrained_is_found_there(cache, network, versions):
    snapshot = put_in_cache(cache, "gpt2", versions[0])
    assert find_folder("gpt2@main").path == find_folder(f"gpt2@{snapshot.name}").path == snapshot
    assert not network


@pytest.mark.parametrize("name", ["model@main", "owner/model@v1", "model:a.gguf"])
def test_a_folder_comes_first(tmp_path, monkeypatch, versions, network, name):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(versions[0], tmp_path / name)
    found = find_folder(name)
    assert (found.path, found.name) == (Path(name), Path(name).name)
    assert not network


@pytest.mark.parametrize("revision", ["", "../../x", "/etc", "a b", "a\\b", "-", "a@{1}", ".git", "main@v1"])
def test_what_cannot_be_a_revision_is_refused_and_nobody_is_asked(cache, network, revision):
    with pytest.raises(SubjectError, match=r"is no revision: name a branch, a tag or a commit, as owner/model@main$"):
        find_folder(f"owner/tiny@{revision}")
    assert not network and not cache.exists()


@pytest.mark.parametrize("file", ["", "model.safetensors", "../../x.gguf", "/x.gguf", "x\\y.gguf", "a//b.gguf"])
@pytest.mark.parametrize("name", ["owner/tiny", "owner/tiny@main"])
def test_what_cannot_be_a_file_is_refused_and_nobody_is_asked(cache, network, name, file):
    with pytest.raises(SubjectError, match=r"is no GGUF file of that repository: name one as owner/model:FILE\.gguf$"):
        find_folder(f"{name}:{file}")
    assert not network and not cache.exists()


@pytest.mark.parametrize("name", ["owner/a--b", "owner/model.git", "a..b", "-owner/model", "owner/" + "x" * 97])
def test_a_name_that_the_hub_does_not_allow_is_refused_and_nobody_is_asked(cache, network, name):
    with pytest.raises(SubjectError, match="cannot be a hub id, and there is no folder of that name: check the spelling"):
        find_folder(name)
    assert not network


@pytest.mark.parametrize(
    "name", ["plantd:without-induction", "C:\\models\\mine", "https://huggingface.co/gpt2", "gpt2:x", "a b"]
)
def test_what_is_neither_a_model_nor_a_control_is_told_what_there_is(cache, network, name):
    with pytest.raises(SubjectError, match="is neither a folder nor a hub id: name mini, planted, gpt2"):
        find_folder(name)
    assert not network


# Cards.


@pytest.mark.parametrize(
    "name", ["gpt2@main", "gpt2@607a30d", "openai-community/gpt2@main", "owner/my-gpt2-small@v2", "gpt2:a.gguf"]
)
def test_a_revision_goes_by_the_card_of_its_model(name):
    assert card_for(name, None).name == "gpt2-small"


def test_so_does_one_whose_heads_are_shuffled():
    assert card_for("shuffled:gpt2@main", None).name == "gpt2-small"


def test_a_folder_whose_name_has_an_at_sign_goes_by_the_whole_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2@mine").mkdir()
    assert card_for("gpt2@mine", None) is None


# GGUF files.


def test_a_model_in_a_gguf_file_of_the_hub_is_the_one_in_the_file(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "tiny.Q8_0.gguf", tiny_llama(), Form.Q8_0)
    (commit,) = hub.add("owner/tiny-gguf", {file.name: file.read_bytes(), "README.md": b"hello"})
    found, there = find_folder(f"owner/tiny-gguf:{file.name}"), find_folder(str(file))
    assert (found.sha256(), found.config) == (there.sha256(), there.config)
    assert found.name == f"owner/tiny-gguf:{file.name}"
    assert found.source == f"hub owner/tiny-gguf, file {file.name}, commit {commit}, Q8_0"
    hub.stop()
    assert find_folder(f"owner/tiny-gguf:{file.name}") == found


@pytest.fixture
def inspected(monkeypatch) -> list[tuple[str, Path, str]]:
    """What the reader of GGUF files is asked to look at, which is no real one here."""
    seen = []
    monkeypatch.setattr(gguf, "inspect_gguf", lambda *asked: seen.append(asked))
    return seen


@pytest.fixture
def quantised(hub) -> list[str]:
    """The commits of a repository with two GGUF files, and other ones on a branch."""
    main = {"tiny.Q4_1.gguf": b"four", "q8/tiny.Q8_0.gguf": b"eight", "README.md": b"hello"}
    return list(hub.add("owner/tiny-gguf", main, main | {"tiny.Q4_1.gguf": b"old"}, refs={"old": 1}))


@pytest.mark.parametrize("file, content", [("tiny.Q4_1.gguf", b"four"), ("q8/tiny.Q8_0.gguf", b"eight")])
def test_one_file_of_a_repository_comes_alone_and_once(hub, cache, quantised, inspected, capfd, file, content):
    name = f"owner/tiny-gguf:{file}"
    find_folder(name)
    ((named, path, source),) = inspected
    assert (named, path.read_bytes()) == (name, content)
    assert source == f"hub owner/tiny-gguf, file {file}, commit {quantised[0]}"
    assert hub.files_asked() == [Path(file).name]
    assert capfd.readouterr().err.startswith(f"downloading owner/tiny-gguf ({file}) from the hub once: ")
    hub.asked.clear()
    find_folder(name)
    assert inspected[1] == inspected[0] and not hub.asked


def test_a_file_of_a_revision(hub, quantised, inspected):
    find_folder("owner/tiny-gguf@old:tiny.Q4_1.gguf")
    ((_, path, source),) = inspected
    assert path.read_bytes() == b"old"
    assert source == f"hub owner/tiny-gguf@old, file tiny.Q4_1.gguf, commit {quantised[1]}"


def test_a_file_that_the_repository_lacks_is_a_sentence_with_those_that_it_has(hub, quantised, inspected):
    with pytest.raises(SubjectError) as caught:
        find_folder("owner/tiny-gguf@old:tiny.Q2_K.gguf")
    assert str(caught.value) == (
        "owner/tiny-gguf@old has no tiny.Q2_K.gguf on the hub: "
        "name one as owner/tiny-gguf@old:FILE, of q8/tiny.Q8_0.gguf, tiny.Q4_1.gguf"
    )
    assert not inspected and not hub.files_asked()


def test_a_file_of_a_repository_without_any_is_a_sentence(hub, commits, inspected):
    with pytest.raises(SubjectError, match=r"it has no GGUF files, so name the repository alone$"):
        find_folder("owner/tiny:tiny.gguf")


def test_a_file_of_a_gated_repository_is_a_sentence(hub, inspected):
    hub.add("owner/gated", {"tiny.gguf": b"secret"}, gated=True)
    with pytest.raises(SubjectError, match="accept the terms of owner/gated"):
        find_folder("owner/gated:tiny.gguf")


def test_a_file_that_is_not_in_the_cache_offline_is_a_sentence(cache, network, inspected):
    with pytest.raises(SubjectError, match="owner/tiny-gguf is not in the local cache and the hub cannot be reached"):
        find_folder("owner/tiny-gguf:tiny.gguf")
