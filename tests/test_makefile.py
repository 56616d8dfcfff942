"""What make hands to a shell, by `make -n`: nothing is installed and nothing runs."""

import shlex
import shutil
import subprocess

import pytest

from tests.claim_projects import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make: install it to test the Makefile")


def said(*arguments: str) -> list[str]:
    """The words of the last command that make would run."""
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name",
    ["plain", "my models/x", "it's", 'a "quoted" one', "costs$5", "$(HOME)", "a;b|c&d", "*", "ümlaut", "a\\b", "~/x", "a#b"],
)
def test_a_name_arrives_as_it_was_typed(name):
    assert said("discover", f"SUBJECT={name}")[1:] == ["-m", "discovery", "--subject", name]
    assert said("discover", "SUBJECT=mini", f"OUT={name}")[3:] == ["--subject", "mini", "--out", name]


def test_arguments_are_words_of_the_shell():
    assert said("claims", "ARGS=--subject 'my models/x' -x")[-3:] == ["--subject", "my models/x", "-x"]


@pytest.mark.parametrize("arguments", [(), ("SUBJECT=",)])
def test_discovery_without_a_model_says_what_is_missing(arguments):
    done = subprocess.run(["make", "-n", "discover", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "make discover SUBJECT=path/to/model" in done.stderr
