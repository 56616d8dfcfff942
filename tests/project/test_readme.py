"""What the README and the pages of docs/ promise, as far as it can be run or looked up."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from circuit_claims import cli
from tests.docs.pages import EVERYTHING, PAGES, ROOT, anchors, blocks, page, section
from tests.support.claim_runs import in_process, run_pytest

README = PAGES["README.md"]
#: Commands of which a page may name an option by itself.
COMMANDS = ("discover", "audit", "train-sae", "circuit", "coverage")


def example() -> str:
    """The complete claim in the README's section "A claim"."""
    (claim,) = blocks(section(README, "A claim"), "python")
    return claim


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each line of a block of commands, with its page, as words."""
    for name, text in PAGES.items():
        for block in blocks(text):
            for line in block.splitlines():
                if line:
                    yield name, shlex.split(line, comments=True)


@cache
def help_of(program: str, *words: str) -> str:
    """What pytest, or a command of ours, says with --help."""
    if program == "pytest":
        return run_pytest("--help").stdout
    return in_process(lambda: ended_with([*words, "--help"])).stdout


def ended_with(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.app(words, prog_name="circuit-claims")
    assert ended.value.code in (0, None), words
    return 0


def test_the_readme_is_two_screens_long():
    assert len(README.encode()) <= 8 * 1024


def test_the_example_claim_is_under_ten_lines():
    assert len(example().strip().splitlines()) < 10


def test_the_tutorial_shows_the_readmes_claim():
    assert example() in blocks(page("tutorial/first-claim.md"), "python")


def test_the_example_claim_runs_and_has_its_row(pytester: pytest.Pytester, same_profile: None):
    folder = pytester.mkdir("claims") / "ioi"
    folder.mkdir()
    (folder / "test_mine.py").write_text(example(), encoding="utf-8")
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyprojecttoml((ROOT / "pyproject.toml").read_text(encoding="utf-8").replace('["."]', f'["{ROOT}"]'))
    result = pytester.runpytest_inprocess("claims", "--subject", "mini", "-k", "one_name_mover", "--report-dir", "out")
    assert result.ret == 0, result.stdout.str()
    (row,) = json.loads((pytester.path / "out" / "claims.json").read_text(encoding="utf-8"))["rows"]
    assert row["verdict"] == "holds"
    assert row["claim_id"] == "ioi/mine/one_name_mover_can_be_spared"
    assert row["statement"].startswith("Without its first name mover")
    assert row["source"] == "my notebook, 21 November"
    assert row["n"] >= 30 and row["ci_low"] < row["observed"] < row["ci_high"]


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_a_page_names_exists(name):
    for path in re.findall(r"`((?:circuit_claims|claims|fixtures|reports|tests|benchmarks|docs)/[\w./-]+)`", PAGES[name]):
        if not path.startswith("reports/out") and "NAME" not in path and path != "claims/ioi/test_mine.py":
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name):
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", PAGES[name]):
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), link
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), link


def test_every_page_is_reached_from_the_start_page():
    linked = {
        (Path("docs") / link.partition("#")[0]).as_posix() for link in re.findall(r"\]\(([\w./-]+\.md)", page("index.md"))
    }
    assert linked == {name for name in PAGES if name.startswith("docs/")} - {"docs/index.md"}


def test_every_page_is_in_the_navigation_of_the_site():
    names = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    assert sorted(f"docs/{name}" for name in names) == sorted(name for name in PAGES if name.startswith("docs/"))


def test_every_option_that_a_page_names_is_one():
    helped = help_of("pytest") + "".join(help_of("circuit-claims", command) for command in COMMANDS)
    for option in set(re.findall(r"`(--[a-z-]+)", EVERYTHING)):
        assert option in helped, option


def test_every_command_that_a_page_shows_is_understood():
    """Its target, its command and its options exist; what names a model or a file is the reader's."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    seen = set()
    for name, (program, *words) in commands():
        first = words[0] if words else ""
        if program == "make":
            assert first in targets, (name, first)
            continue
        assert program in ("pytest", "circuit-claims", "python", "source", "git", "pip", "pre-commit"), (name, program)
        seen.add(program)
        if program == "pytest" or (program, first) == ("circuit-claims", "run"):
            helped = help_of("pytest") + "--config"
        elif program == "circuit-claims":
            own_claims = first == "audit" and words[1:2] and not words[1].startswith("-")
            command = words[:2] if first == "report" or own_claims else words[:1]
            helped = help_of("circuit-claims", *command)
        else:
            continue
        for word in words:
            assert not word.startswith("-") or word.split("=")[0] in helped, (name, word)
    assert {"pytest", "circuit-claims"} <= seen


def test_every_option_has_its_line_in_the_reference():
    from circuit_claims.fixtures.options import OPTIONS

    assert not {name for name in OPTIONS if f"`--{name}" not in page("reference/options.md")}


def test_every_command_has_its_line_in_the_reference():
    listed = re.findall(r"^│ (\S+) ", help_of("circuit_claims").partition("Commands")[2], re.M)
    assert len(listed) > 10
    assert not {name for name in listed if f"`circuit-claims {name}" not in page("reference/commands.md")}


def test_every_package_has_its_line_in_the_layout():
    folders = {f"circuit_claims/{path.parent.name}" for path in (ROOT / "circuit_claims").glob("*/__init__.py")}
    listed = re.findall(r"^\| `([\w/]+)/` \|", page("explanation/layout.md"), re.M)
    assert set(listed) - folders == {"claims", "fixtures", "reports", "circuit_claims", "benchmarks", "tests", "docs"}
    assert folders <= set(listed)


def test_every_target_of_make_has_its_line_in_the_reference():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert not {name for name in phony.split() if f"`make {name}" not in page("reference/commands.md")}


def test_every_verdict_and_basis_has_its_line_in_the_reference():
    from circuit_claims.cards.bases import BASES
    from circuit_claims.verdicts.rows import VERDICTS

    words = page("reference/verdicts.md")
    assert not {word for word in VERDICTS if f"| {word} |" not in words}
    assert not {word for word in BASES if word not in words}


def test_every_column_of_a_row_has_its_line_in_the_reference():
    from circuit_claims.verdicts.rows import COLUMNS

    listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", page("reference/rows.md"), re.M)))
    assert set(listed) == set(COLUMNS) - {"_"}


def test_the_card_on_the_reference_page_can_be_read(tmp_path):
    from circuit_claims.cards.card import _CARD_KEYS, read_card
    from circuit_claims.heads import Head

    text = page("reference/card.md")
    (shown,) = blocks(text, "toml")
    (tmp_path / "my-card.toml").write_text(shown, encoding="utf-8")
    card = read_card(tmp_path / "my-card.toml")
    assert card.heads("name mover") == (Head(9, 9), Head(9, 6), Head(10, 0))
    assert (card["logit_difference"].low, card["logit_difference"].high) == (3.41, 3.71)
    assert not {key for key in _CARD_KEYS if f"`{key}`" not in text and f"`[{key}" not in text}


@pytest.mark.parametrize("name", ["how-to/own-project.md", "how-to/single-experiments.md", "how-to/circuit-of-edges.md"])
def test_the_python_that_a_page_shows_runs(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (shown,) = blocks(page(name), "python")
    given: dict = {}
    exec(shown, given)
    if "sweep" in given:
        assert given["sweep"].estimate.shape == (4, 8)
    elif "scores" in given:
        assert len(given["scores"].to_frame(20)) == 20
    else:
        assert 1 <= given["result"].crossover_layer <= 4


def test_every_expectation_that_a_page_names_exists():
    """What can be measured is run, call by call, in tests/tasks/test_advertised_calls.py."""
    from circuit_claims.verdicts.expect import Expectation

    names = set(re.findall(r"\.([a-z_]+)\(", section(page("reference/claims.md"), "What can be expected")))
    assert len(names) >= 10
    for name in names - {"contains"}:
        assert hasattr(Expectation, name), name


def test_the_statistical_test_that_a_page_shows_runs(mini):
    """On mini, whose circuit is known to fall short of the model on nearly every prompt."""
    from circuit_claims.measure.circuit_tests import equivalence
    from circuit_claims.prompts.ioi import Population
    from circuit_claims.tasks.ioi.task import IOI

    (shown,) = re.findall(r"`(equivalence\(.+\)\.reject)`", page("reference/claims.md"))
    ioi = IOI(subject=mini, seed=0, chunk=40, population=Population(), prepend_bos=False)
    assert eval(shown, {"equivalence": equivalence, "ioi": ioi, "card": mini.card}) is True
    assert (
        eval(
            shown.replace("ioi.circuit(card.nodes()).value()", "ioi.logit_difference()"),
            {"equivalence": equivalence, "ioi": ioi},
        )
        is False
    )
