"""The command `circuit-claims`: it starts fast, shows examples, and hands everything else on."""

import json
import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest

from circuit_claims import cli

COMMANDS = (
    "run",
    "discover",
    "audit",
    "report",
    "train-sae",
    "circuit",
    "coverage",
    "lens",
    "trace",
    "patch",
    "attention",
    "attribute",
)
COMMAND = [sys.executable, "-m", "circuit_claims"]


def said(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, **options)


def in_this_process(*arguments: str) -> int:
    """The exit status; what is printed goes to the test's own streams."""
    with pytest.raises(SystemExit) as ended:
        cli.app(list(arguments), prog_name="circuit-claims")
    return int(ended.value.code or 0)


def test_help_names_every_command_and_imports_no_torch():
    code = "import sys; from circuit_claims.cli import app\ntry: app(['--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, modules = done.stdout.splitlines()
    assert all(command in "\n".join(shown) for command in COMMANDS)
    assert not {"torch", "transformers", "numpy", "pandas", "pytest"} & set(modules.split())


@pytest.mark.parametrize("command", [*((command,) for command in COMMANDS), ("report", "render"), ("report", "compare")])
def test_the_help_of_each_command_has_an_example(command, capsys):
    assert in_this_process(*command, "--help") == 0
    usage, *others = " ".join(capsys.readouterr().out.split()).split(f"circuit-claims {' '.join(command)} ")
    assert usage.lower().endswith("usage: ") and others[1:], "once in the usage, once in the example"


def test_the_version(capsys):
    assert in_this_process("--version") == 0
    assert capsys.readouterr().out == f"circuit-claims {version('circuit-claims')}\n"


def test_an_unknown_command_is_refused(capsys):
    assert in_this_process("discovery") == 2
    assert "discovery" in capsys.readouterr().err


def test_run_is_pytest_on_the_suite_or_on_chapters(tmp_path):
    done = said("run", "tokenizer", "-k", "objects", "--subject", "mini", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    (row,) = json.loads((tmp_path / "circuit-claims-report/claims.json").read_text())["rows"]
    assert row["claim_id"] == "tokenizer/names/every_filler_is_one_token[objects]"
    assert said("run", "--prompts=3", cwd=tmp_path).returncode == 4, "pytest's own exit status"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("discover --subject mini --prompts 4", "--prompts must be at least 30"),
        ("discover --subject mini --seed 1 --seed 2", "--seed is given 2 times"),
        ("report render nowhere.jsonl", "nowhere.jsonl"),
        ("report compare nowhere elsewhere", "nowhere"),
        ("train-sae --subject gpt2", "--layer"),
    ],
)
def test_a_mistake_has_the_words_and_the_status_of_the_module(arguments, sentence, capsys):
    assert in_this_process(*shlex.split(arguments)) == 2
    assert sentence in capsys.readouterr().err


def test_an_audit_whose_table_cannot_be_kept_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("circuit_claims.audit.__main__.LATEST", tmp_path / "nowhere/audit.json")
    assert in_this_process("audit") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be kept" in said and "-k or --base" in said
