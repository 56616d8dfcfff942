"""`circuit-claims lens` and the others: a sentence, three paths; and a mistake is one sentence and status 2."""

import json
import shlex

import pytest

from circuit_claims.experiments import command_line
from circuit_claims.experiments.command_line import EXPERIMENTS, main
from tests.experiments.prompts import OTHER, OXYGEN, STORE


@pytest.fixture
def here(tmp_path, monkeypatch, mini):
    """An empty folder to work in, with the embedded model loaded already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "_loaded", lambda args: mini)
    return tmp_path


def refused(name: str, *arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(name, arguments)
    return ended.value.code


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lens", [OXYGEN, "--target", " oxygen", "--all-positions", "--top", "3"]),
        ("trace", ["The capital of France is", "--target", " Paris", "--about", "France", "--seed", "3"]),
        ("patch", [STORE, "--corrupted", OTHER, "--answer", " Mary", "--foil", " John", "--at", "gave"]),
        ("attention", [STORE, "--head", "L3H1", "--head", "L0H4"]),
        ("attribute", [STORE, "--answer", " Mary", "--foil", " John"]),
        (
            "attribute",
            [STORE, "--answer", " Mary", "--foil", " John", "--corrupted", OTHER, "--method", "attribution-patching"],
        ),
    ],
)
def test_each_prints_its_sentence_and_its_files(here, capsys, name, arguments):
    main(name, arguments)
    sentence, *paths = capsys.readouterr().out.splitlines()
    assert [path.rsplit("/", 1)[1] for path in paths] == ["figure.svg", "figure.png", "result.json"]
    assert paths[0].startswith(f"circuit-claims-experiments/{name}-")
    found = json.loads((here / paths[2]).read_text(encoding="utf-8"))
    assert found["sentence"] == sentence and found["experiment"] == name
    assert found["provenance"]["command"] == shlex.join(["circuit-claims", name, *arguments])


def test_other_options_have_another_folder_and_the_same_ones_the_same(here):
    for arguments in ([OXYGEN], [OXYGEN], [OXYGEN, "--top", "3"]):
        main("lens", arguments)
    assert len(list((here / "circuit-claims-experiments").iterdir())) == 2
    main("lens", [OXYGEN, "--out", "mine"])
    assert (here / "mine" / "result.json").is_file()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("lens", [OXYGEN, "--target", " Mary John"], "2 tokens for mini"),
        ("lens", [""], "the prompt is empty"),
        ("trace", [OXYGEN, "--about", "oxygen"], "is not in the prompt"),
        ("trace", [OXYGEN], "give either the words of the prompt to corrupt (--about)"),
        ("patch", [STORE, "--corrupted", OXYGEN], "14 and 6 tokens"),
        ("attention", [STORE, "--head", "L9H9"], "mini has no head L9H9"),
        ("attribute", [STORE, "--method", "attribution-patching"], "(--corrupted)"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(here, capsys, name, arguments, said):
    assert refused(name, *arguments) == 2
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and not told.out
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([OXYGEN, "--subject", "./nowhere"], "there is no folder ./nowhere"),
        ([OXYGEN, "--seed", "-1"], "--seed must not be negative"),
        ([OXYGEN, "--device", "cuda:77"], "there is no device cuda:77"),
        ([OXYGEN, "--target", " a", "--target", " b"], "--target is given 2 times"),
        ([OXYGEN, "--bos", "yes", "--no-prepend-bos"], "--no-prepend-bos and --bos yes contradict each other"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_before_a_model_is_loaded(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert refused("lens", *arguments) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_hint_is_a_note_beside_the_result(here, capsys):
    main("lens", [OXYGEN + " "])
    assert "note: the prompt ends with a blank" in capsys.readouterr().err


def test_every_example_can_be_parsed():
    for name, experiment in EXPERIMENTS.items():
        program, command, *arguments = shlex.split(experiment.example)
        assert (program, command) == ("circuit-claims", name)
        assert command_line.arguments(name, arguments).prompt
