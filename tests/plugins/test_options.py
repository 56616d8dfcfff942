"""Options that mean nothing, or that contradict each other, are refused in one sentence before anything is loaded."""

import re

import pytest

from circuit_claims.discovery.__main__ import main as discover
from circuit_claims.fixtures.options import ONE_VALUE
from circuit_claims.option_checks import BOS_SPELLINGS, contradiction
from tests.support.claim_projects import ROOT, run, write

CLAIM = '''
def test_holds(expect):
    """Twos lie above one."""
    expect(sizes(2, 2, 2), "made up").above(1)
'''


def refused(project, *arguments):
    """What the command line is told; nothing may have run."""
    write(project, CLAIM)
    result, rows = run(project, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR and not rows
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1, lines
    return lines[0].removeprefix("ERROR: ")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "0", "-1", "1e400", "1e300"])
def test_a_memory_that_is_no_number_of_bytes_is_refused(project, value):
    assert refused(project, f"--max-memory={value}").startswith("--max-memory must be above 0 and finite")


@pytest.mark.parametrize("seed", [2**32, 2**64, 10**40])
def test_a_seed_that_no_generator_takes_is_refused(project, capsys, seed):
    assert "--seed must be at most 4294967295" in refused(project, "--seed", str(seed))
    with pytest.raises(SystemExit) as ended:
        discover(["--subject", "mini", "--seed", str(seed)])
    assert ended.value.code == 2 and "--seed must be at most 4294967295" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--seed", str(2**32 - 1)), ("--max-memory=1e290",), (f"--max-prompts={10**40}",)])
def test_the_largest_that_means_something_is_taken(project, arguments):
    write(project, CLAIM)
    result, rows = run(project, *arguments)
    assert result.ret == 0 and [row["verdict"] for row in rows] == ["holds"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subject=mini", "--subject", "planted"), "--subject is given 2 times, with 'mini' and 'planted': give it once"),
        (("--seed", "1", "--seed", "1", "--seed=2"), "--seed is given 3 times, with '1' and '2': give it once"),
        (("--card=a", "--card=b"), "--card is given 2 times"),
        (("--report-dir=other",), "--report-dir is given 2 times"),
        (("--prepend-bos", "--no-prepend-bos"), "--prepend-bos and --no-prepend-bos contradict each other"),
        (("--prepend-bos", "--cc-no-prepend-bos"), "--prepend-bos and --cc-no-prepend-bos contradict each other"),
        (("--bos", "yes", "--no-prepend-bos"), "--no-prepend-bos and --bos yes contradict each other: give one of them"),
        (("--cc-bos=auto", "--prepend-bos"), "--prepend-bos and --cc-bos auto contradict each other"),
        (("--bos=yes", "--cc-bos=no"), "--bos yes and --cc-bos no contradict each other"),
        (("--bos=yes", "--bos", "no"), "--bos is given 2 times, with 'yes' and 'no'"),
    ],
)
def test_an_option_with_two_values_is_refused(project, arguments, said):
    assert said in refused(project, *arguments)


def test_what_is_said_twice_alike_is_taken(project):
    write(project, CLAIM)
    bos = ("--prepend-bos", "--prepend-bos", "--bos=yes", "--cc-bos", "yes", "--cc-prepend-bos")
    result, rows = run(project, "--seed=1", "--seed", "1", *bos, "-v", "-v")
    assert result.ret == 0 and rows[0]["seed"] == 1 and rows[0]["prepend_bos"] is True


def test_a_default_of_the_configuration_or_the_environment_may_be_overridden(project, monkeypatch):
    """The project's ini says --subject=mini already."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "--seed=1 --no-prepend-bos")
    write(project, CLAIM)
    result, rows = run(project, "--subject=mini", "--seed=2", "--prepend-bos")
    assert result.ret == 0 and rows[0]["seed"] == 2 and rows[0]["prepend_bos"] is True


def test_bos_that_nobody_decided_is_the_tokenizers_to_decide(project):
    """A claim that loads no subject has had no tokenizer say so."""
    write(project, CLAIM)
    for arguments, said in (((), None), (("--bos=auto",), None), (("--bos=no",), False), (("--no-prepend-bos",), False)):
        result, rows = run(project, *arguments)
        assert result.ret == 0 and rows[0]["prepend_bos"] is said


def test_a_word_that_bos_does_not_know_is_refused(project):
    write(project, CLAIM)
    result, rows = run(project, "--bos=perhaps")
    assert result.ret == pytest.ExitCode.USAGE_ERROR and not rows
    assert any("--bos" in line and "perhaps" in line for line in result.errlines)


def test_what_stands_in_a_file_of_arguments_counts_as_typed(tmp_path):
    (tmp_path / "arguments.txt").write_text("--seed=2\n")
    assert "'1' and '2'" in contradiction(["--seed=1", f"@{tmp_path / 'arguments.txt'}"], ["--seed"])


@pytest.mark.parametrize(
    "arguments",
    [["--subject"], ["--", "--subject=a", "--subject=b"], ["-k", "no --seed"], ["--sub=a", "--subject=b"], ["@nowhere.txt"]],
)
def test_what_is_no_repetition_is_left_to_the_parser(arguments):
    assert contradiction(arguments, ["--subject"], BOS_SPELLINGS) == ""


def test_every_option_of_ours_with_a_value_is_looked_at(project):
    """By the help: what takes a value, in our group."""
    project.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8").replace('    "pytester",\n', ""))
    helped = project.runpytest_subprocess("--help").stdout.str()
    group = re.search(r"^claims about circuits:\n(.*?)\n\S", helped, re.S | re.M)[1]
    with_value = set(re.findall(r"^  (--[\w-]+)[ =](?!\s)\S", group, re.M))
    assert with_value == {*ONE_VALUE, *(option.replace("--", "--cc-") for option in ONE_VALUE)}


def test_discovery_refuses_an_option_with_two_values(capsys):
    with pytest.raises(SystemExit) as ended:
        discover(["--subject", "mini", "--subject", "planted"])
    assert ended.value.code == 2
    assert "--subject is given 2 times, with 'mini' and 'planted'" in capsys.readouterr().err


def test_discovery_refuses_contradictions_about_bos(capsys):
    with pytest.raises(SystemExit) as ended:
        discover(["--subject", "mini", "--bos", "yes", "--no-prepend-bos"])
    assert ended.value.code == 2
    assert "--no-prepend-bos and --bos yes contradict each other" in capsys.readouterr().err
