"""The folder of an experiment: three files, whole or not there, with where they come from."""

import json
import xml.etree.ElementTree as ET

import pytest

import circuit_claims as cc
from circuit_claims.experiments import drawing
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.saving import FILES
from tests.experiments.prompts import FRANCE, OTHER, OXYGEN, STORE

EXPERIMENTS = {
    "lens": lambda model: cc.logit_lens(model, OXYGEN, " oxygen"),
    "trace": lambda model: cc.trace(model, FRANCE, " Paris", about="France"),
    "patch": lambda model: cc.patch(model, STORE, OTHER, " Mary", foil=" John"),
    "attention": lambda model: cc.attention(model, STORE, ["L3H1", "L0H4"]),
    "attention of all": lambda model: cc.attention(model, STORE),
    "attribute": lambda model: cc.attribute(model, STORE, " Mary"),
    "attribution patching": lambda model: cc.attribute(
        model, STORE, " Mary", foil=" John", corrupted=OTHER, method="attribution-patching"
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_writes_two_pictures_and_its_numbers(mini, name, tmp_path):
    result = EXPERIMENTS[name](mini)
    paths = result.save(tmp_path / "deep" / "down")
    assert [path.name for path in paths] == list(FILES)
    assert set(paths[0].parent.iterdir()) == set(paths), "and nothing else"
    assert ET.parse(paths[0]).getroot().tag.endswith("svg") and paths[1].read_bytes().startswith(b"\x89PNG")
    found = json.loads(paths[2].read_text(encoding="utf-8"))
    assert found["sentence"] == result.sentence and found["result"]


def test_the_numbers_say_where_they_come_from(mini, tmp_path):
    cc.trace(mini, FRANCE, " Paris", about="France", prepend_bos=True, seed=7).save(
        tmp_path, command="circuit-claims trace ..."
    )
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["provenance"]
    assert found["command"] == "circuit-claims trace ..."
    assert (found["subject"], found["weights_sha256"]) == ("mini", mini.weights_sha256)
    assert (found["dtype"], found["device"], found["mode"], found["seed"]) == ("float32", str(mini.device), "processed", 7)
    assert found["prepend_bos"] is True and found["arguments"]["about"] == "France"
    tokens = found["prompts"]["prompt"]["tokens"]
    assert tokens[0]["id"] == mini.tokenizer.bos_token_id and [token["text"] for token in tokens[1:]] == FRANCE.split()
    assert {"circuit-claims", "python", "torch", "transformers"} <= found["versions"].keys()
    assert found["date"].endswith("+00:00")


def test_the_same_experiment_gives_the_same_picture(mini, tmp_path):
    for name in ("a", "b"):
        EXPERIMENTS["patch"](mini).save(tmp_path / name)
    for file in FILES[:2]:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_an_experiment_wrote_is_written_anew(mini, tmp_path):
    EXPERIMENTS["patch"](mini).save(tmp_path)
    EXPERIMENTS["lens"](mini).save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["experiment"] == "lens"


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_somebody_else_is_not_overwritten(mini, tmp_path, name):
    (tmp_path / name).write_text("[1]")
    with pytest.raises(ExperimentError, match="no experiment wrote it"):
        EXPERIMENTS["lens"](mini).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "[1]"


def test_nothing_is_written_where_a_picture_cannot_be_drawn(mini, tmp_path, monkeypatch):
    def fails(figure):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing, "png_of", fails)
    with pytest.raises(OSError, match="No space"):
        EXPERIMENTS["lens"](mini).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(mini, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match=r"cannot be written .*: name another folder with --out"):
        EXPERIMENTS["lens"](mini).save(tmp_path / "file" / "inside")
