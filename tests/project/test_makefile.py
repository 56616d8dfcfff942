"""What make hands to a shell, by `make -n`: nothing is installed and nothing runs."""

import os
import shlex
import shutil
import subprocess

import pytest

from tests.support.claim_projects import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make: install it to test the Makefile")


def dry_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`make -n` as a user would type it: a make that runs these tests leaves variables that change what an inner one prints."""
    outer = {"MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    command = ["make", "-n", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def said(*arguments: str) -> list[str]:
    """The words of the last command that make would run."""
    done = dry_run(*arguments)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name",
    ["plain", "my models/x", "it's", 'a "quoted" one', "costs$5", "$(HOME)", "a;b|c&d", "*", "ümlaut", "a\\b", "~/x", "a#b"],
)
def test_a_name_arrives_as_it_was_typed(name):
    assert said("discover", f"SUBJECT={name}")[1:] == ["-m", "circuit_claims.discovery", "--subject", name]
    assert said("discover", "SUBJECT=mini", f"OUT={name}")[3:] == ["--subject", "mini", "--out", name]


def test_the_real_model_is_fetched_by_its_module():
    assert said("smollm2")[1:] == ["-m", "circuit_claims.models.smollm2"]


def test_arguments_are_words_of_the_shell():
    assert said("claims", "ARGS=--subject 'my models/x' -x")[-3:] == ["--subject", "my models/x", "-x"]


@pytest.mark.parametrize("arguments", [(), ("SUBJECT=",)])
def test_discovery_without_a_model_says_what_is_missing(arguments):
    done = dry_run("discover", *arguments)
    assert done.returncode != 0 and "make discover SUBJECT=path/to/model" in done.stderr


def test_a_make_that_runs_these_tests_changes_nothing(monkeypatch):
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setenv("MAKEFLAGS", "w")
    assert said("discover", "SUBJECT=mini")[1:] == ["-m", "circuit_claims.discovery", "--subject", "mini"]
