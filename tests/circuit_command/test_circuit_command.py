"""`circuit-claims circuit`: three files that say the same, and a sentence for what cannot be done."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from circuit_claims.circuit_command.command_line import main
from circuit_claims.circuit_command.drawing import drawn
from circuit_claims.circuit_command.saving import FILES
from circuit_claims.edges.edge import Edge
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.heads import Head

FAMILIES = {"a <b> family": [Head(2, 3)], "absent": [Head(1, 1)]}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("circuit") / "found"
    main(["--subject", "mini", "--edges", "60", "--prompts", "8", "--out", str(folder)])
    return folder


def test_figure_table_and_list_are_of_the_same_edges(folder):
    assert {path.name for path in folder.iterdir()} == set(FILES)
    found = json.loads((folder / "circuit.json").read_text(encoding="utf-8"))
    with (folder / "edges.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    graph = EdgeGraph(4, 8)
    listed = [graph.parse(f"{row['sender']} -> {row['receiver']}") for row in found["edges"]]
    assert found["n_edges"] == len(listed) == len(set(listed)) == len(rows) <= 60
    assert [(row["sender"], float(row["score"])) for row in rows] == [(row["sender"], row["score"]) for row in found["edges"]]
    sizes = [abs(row["score"]) for row in found["edges"]]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row["low"] <= row["score"] <= row["high"] for row in found["edges"])
    svg = ElementTree.fromstring((folder / "circuit.svg").read_text(encoding="utf-8"))
    assert len(svg.findall(f"{SVG}path")) == len(listed)
    assert found["faithfulness"]["low"] <= found["faithfulness"]["estimate"] <= found["faithfulness"]["high"]
    assert found["provenance"]["subject"] == "mini" and found["provenance"]["command"].startswith("circuit-claims circuit")


def test_a_second_circuit_takes_the_place_of_the_first_and_of_nothing_else(folder, tmp_path, capsys):
    main(
        ["--subject", "mini", "--edges", "10", "--prompts", "4", "--method", "random", "--search", "top", "--out", str(folder)]
    )
    assert "edges of mini" in capsys.readouterr().out
    assert json.loads((folder / "circuit.json").read_text(encoding="utf-8"))["method"] == "random"
    (tmp_path / "circuit.svg").write_text("mine")
    refused(["--subject", "mini", "--out", str(tmp_path)], "no search for a circuit wrote it", capsys)
    assert (tmp_path / "circuit.svg").read_text() == "mine"


def refused(arguments: list[str], sentence: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2 and sentence in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--subject", "mini", "--edges", "9999"], "a circuit of 9,999 edges is asked for"),
        (["--subject", "mini", "--edges", "0"], "--edges must be at least 1"),
        (["--subject", "mini", "--prompts", "1"], "--prompts must be at least 2"),
        (["--subject", "nowhere/at-all"], "nowhere/at-all"),
        (["--subject", "mini", "--pairs", "no-such-file.csv"], "no-such-file.csv"),
        (["--subject", "mini", "--seed", "1", "--seed", "2"], "--seed is given 2 times"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments, sentence, tmp_path, capsys):
    refused([*arguments, "--out", str(tmp_path / "out")], sentence, capsys)
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_a_drawing_is_laid_out_by_layer_with_families_in_their_colours():
    edges = [Edge.parse(text) for text in ("embed -> L0H1.v", "L0H1 -> MLP0", "MLP0 -> L2H3.q", "L2H3 -> logits")]
    text = drawn(edges, [1.0, -2.0, 0.5, 3.0], FAMILIES, 'a "title" & more', "logits")
    svg = ElementTree.fromstring(text)
    titles = [title.text for title in svg.iter(f"{SVG}title")]
    assert titles[0] == 'a "title" & more' and "L2H3, a <b> family" in titles and "L0H1 -> MLP0: -2 logits" in titles
    labels = {label.text: float(label.get("y", "nan")) for label in svg.iter(f"{SVG}text")}
    assert labels["embed"] > labels["L0H1"] > labels["MLP0"] > labels["L2H3"] > labels["logits"]
    assert "a <b> family" in labels and "absent" not in labels
    colours = {path.find(f"{SVG}title").text: path.get("stroke") for path in svg.findall(f"{SVG}path")}  # type: ignore[union-attr]
    assert colours["L0H1 -> MLP0: -2 logits"] != colours["MLP0 -> L2H3.q: 0.5 logits"]
