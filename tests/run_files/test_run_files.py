"""A run as a file: what it may say, what is refused, and that it makes the same run again."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from circuit_claims import cli
from circuit_claims.fixtures.options import OPTIONS
from circuit_claims.run_files import record
from circuit_claims.run_files.arguments import SUITE, claims_of, pytest_arguments
from circuit_claims.run_files.errors import RunFileError
from circuit_claims.run_files.example import example, schema
from circuit_claims.run_files.read import read_run_file
from circuit_claims.run_files.schema import ELSEWHERE, Options, RunFile, keys_of


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_option_of_pytest_has_its_key():
    assert set(keys_of(("options",))) | set(ELSEWHERE) == set(OPTIONS)
    assert set(ELSEWHERE) <= set(OPTIONS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.yaml", "subject: planted\nclaims: [ioi]\noptions:\n  max-prompts: 480\n  max-memory: 2\nreport: out\n"),
        ("run.toml", 'subject = "planted"\nclaims = ["ioi"]\nreport = "out"\n[options]\nmax_prompts = 480\nmax-memory = 2.0\n'),
    ],
)
def test_yaml_and_toml_say_the_same(tmp_path: Path, name: str, text: str):
    found = read_run_file(write(tmp_path, text, name))
    arguments = pytest_arguments(found)
    assert {"--cc-subject=planted", "--cc-max-prompts=480", f"--cc-report-dir={tmp_path / 'out'}"} <= set(arguments)
    assert any(argument.startswith("--cc-max-memory=2") for argument in arguments)
    assert claims_of(found) == [f"{SUITE}.ioi"]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("subjct: mini\n", "run.yaml", "there is no key 'subjct': did you mean 'subject'?"),
        ("options:\n  max-promts: 3\n", "run.yaml", "there is no key 'options.max-promts': did you mean 'max-prompts'?"),
        ("zzz: 1\n", "run.yaml", "there is no key 'zzz': the keys are subject, claims"),
        ("options:\n  seed: many\n", "run.yaml", "'options.seed' is 'many', and should be integer"),
        ("options:\n  dtype: float8\n", "run.yaml", "'options.dtype' is 'float8', and should be 'float32'"),
        ("claims: ioi\n", "run.yaml", "'claims' is 'ioi', and should be list"),
        ("workers: -1\n", "run.yaml", "'workers' is -1, and should be greater than or equal to 0"),
        ("subject: [mini\n", "run.yaml", "is no YAML (line "),
        ("subject: mini\nsubject: gpt2\n", "run.yaml", "is no YAML (line 2: the key 'subject' stands twice)"),
        ("subject = \n", "run.toml", "is no TOML ("),
        ("", "run.yaml", "says nothing of a run"),
        ("- a\n", "run.yml", "says nothing of a run"),
        ("subject: mini\n", "run.txt", "is no run file: give one that ends in .yaml, .yml or .toml"),
        ("subject: !!python/object/apply:os.system ['true']\n", "run.yaml", "is no YAML (line 1: could not determine"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(tmp_path: Path, text: str, name: str, said: str):
    with pytest.raises(RunFileError) as error:
        read_run_file(write(tmp_path, text, name))
    assert said in str(error.value) and "\n" not in str(error.value) and name in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(RunFileError, match=r"nowhere\.yaml cannot be read \(No such file"):
        read_run_file(tmp_path / "nowhere.yaml")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_bytes("subject: Größe\n".encode("latin-1"))
    with pytest.raises(RunFileError, match="is not UTF-8"):
        read_run_file(path)


def test_a_spreadsheets_mark_and_windows_line_ends_are_read(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfsubject: mini\r\nselect: name_movers\r\n")
    assert read_run_file(path).select == "name_movers"


def test_paths_are_relative_to_the_file(tmp_path: Path):
    for name in ("model", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "card.toml").touch()
    text = "subject: model\nclaims: [mine, ioi, 'mine::test_a']\noptions:\n  card: card.toml\n  sae: shuffled\n"
    found = read_run_file(write(tmp_path, text))
    options: object = found.options
    assert found.subject == str(tmp_path / "model")
    assert found.claims == [str(tmp_path / "mine"), "ioi", f"{tmp_path / 'mine'}::test_a"]
    assert vars(options)["card"] == str(tmp_path / "card.toml") and vars(options)["sae"] == "shuffled"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["--seed", "3"], "--cc-seed"),
        (["--cc-seed=3"], "--cc-seed"),
        (["--subject=planted"], "--cc-subject"),
        (["--prepend-bos"], "--cc-bos"),
        (["-k", "x"], "-k"),
        (["-n", "2"], "-n"),
    ],
)
def test_the_command_line_goes_before_the_file(given: list[str], missing: str):
    file = RunFile.model_validate(
        {"subject": "mini", "select": "y", "workers": 1, "options": {"seed": 1, "bos": "yes", "prompts": 30}}
    )
    names = [argument.partition("=")[0] for argument in pytest_arguments(file, given)]
    assert missing not in names and "--cc-prompts" in names
    assert missing in [argument.partition("=")[0] for argument in pytest_arguments(file)]


def test_the_example_is_a_run_file_and_names_every_option(tmp_path: Path):
    assert read_run_file(write(tmp_path, example())).subject == "mini"
    assert all(f"# {name}: " in example() for name in keys_of(("options",)))


def test_the_schema_has_every_key():
    found = schema()
    assert set(found["properties"]) == set(RunFile.model_fields) and found["additionalProperties"] is False
    assert set(found["$defs"]["Options"]["properties"]) == set(keys_of(("options",)))
    assert len(Options.model_fields) == len(OPTIONS) - len(ELSEWHERE)


def test_other_versions_are_told():
    assert record.unlike(None) == "" and record.unlike({"versions": {}}) == ""
    said = record.unlike({"circuit_claims": "0.0.1", "versions": {"torch": "1.0"}})
    assert "circuit-claims 0.0.1 (here" in said and "torch 1.0 (here" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--config"], "--config needs a run file"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["run", "--config=nowhere.toml"], "nowhere.toml cannot be read"),
        (["config", "nothing"], "there is no 'nothing' to print"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments: list[str], said: str):
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.strip().splitlines()) == 1


CLAIM = '''
def test_the_answer_is_ahead(ioi, expect):
    """IO is ahead of S."""
    expect(ioi.logit_difference(), source="mine").above(1)
'''


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_file_beside_a_report_makes_the_same_run_again(pytester: pytest.Pytester, same_profile: None, workers: str):
    pytester.mkdir("mine").joinpath("test_mine.py").write_text(CLAIM, encoding="utf-8")
    common = ("-p", "circuit_claims.plugin", "-p", "no:cacheprovider")
    first = ("mine", "--subject", "mini", "--prompts", "40", "--seed", "3", "--report-dir", "out", "-n", workers)
    assert pytester.runpytest_inprocess(*common, *first).ret == 0
    written = yaml.safe_load((pytester.path / "out" / "run.yaml").read_text(encoding="utf-8"))
    assert (written["subject"], written["claims"], written["report"]) == ("mini", ["../mine"], ".")
    assert written["options"]["prompts"] == 40 and written["options"]["seed"] == 3 and written["workers"] == int(workers)
    assert written["made_with"]["device"] == "cpu" and written["made_with"]["weights_sha256"]
    again = read_run_file(pytester.path / "out" / "run.yaml")
    assert ("-n", workers) in pairwise([*pytest_arguments(again), ""]) or workers == "0"
    extra = ["--report-dir", "again", "-n", "0"]  # what a worker has found is found without one, too
    arguments = [*claims_of(again), *pytest_arguments(again, extra), *extra]
    assert pytester.runpytest_inprocess(*common, *arguments).ret == 0
    rows = [json.loads((pytester.path / name / "claims.json").read_text(encoding="utf-8"))["rows"] for name in ("out", "again")]
    for row in (*rows[0], *rows[1]):
        del row["duration_s"]
    assert rows[0] == rows[1] and rows[0][0]["n"] == 40


def test_the_whole_suite_and_its_chapters_are_named_as_such(tmp_path: Path):
    options = {name: attributes.get("default") for name, attributes in OPTIONS.items()}
    root = Path(cli.__file__).parents[1]
    for named, expected in ((SUITE, []), (f"{SUITE}.ioi", ["ioi"]), ("claims", []), ("claims/ioi", ["ioi"])):
        run = record.resolved(
            options,
            named=[named],
            started_in=root,
            folder=tmp_path,
            select="",
            profile="default",
            workers=0,
            made_with={},
        )
        assert run["claims"] == expected


def test_the_commit_of_the_project_is_noted(tmp_path: Path):
    assert record.commit(tmp_path) is None
    found = record.commit(Path(cli.__file__).parents[1])
    assert found is None or len(found["commit"]) == 40
