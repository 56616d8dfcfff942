"""How a card's numbers were measured, and a run that differs: said at the top of the terminal and of the report."""

import re
import tomllib

import pytest

from circuit_claims.cards.card import CARD_DIR, MEASURED, PUBLISHED, CardError, read_card
from circuit_claims.cards.find import find_card
from circuit_claims.cards.settings import CardSettings, difference, names_in_short, other_weights
from circuit_claims.discovery import card_text
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.subject import Settings, prepare
from tests.support.claim_projects import claimed

OURS = CardSettings(False, "processed", "float32", "default", 960, 0)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({}, ""),
        ({"prompts": 8, "seed": 7}, ""),
        ({"prepend_bos": True}, "measured without BOS, and this run is with BOS: its values may not apply"),
        ({"weights": "raw"}, "measured with processed weights, and this run is with raw weights: its values"),
        ({"dtype": "bfloat16"}, "measured in float32, and this run is in bfloat16: its values"),
        (
            {"names": "9 names, sha256 0"},
            "with the names that are built in, and this run is with other names (9 names, sha256 0):",
        ),
        (
            {"prepend_bos": True, "weights": "raw", "dtype": "float16"},
            "without BOS, with processed weights and in float32, and this run is with BOS, with raw weights and in float16:",
        ),
        ({"names": None}, ""),
    ],
)
def test_a_run_that_differs_is_said_to(run, says):
    of_run = CardSettings(**{"prepend_bos": False, "weights": "processed", "dtype": "float32", "names": "default"} | run)
    found = difference("mini", OURS, of_run)
    assert (says in found and found.startswith("the card mini was")) if says else found == ""


def test_of_what_a_card_does_not_say_nothing_is_said():
    assert difference("mine", CardSettings(), CardSettings(True, "raw", "float16", "9 names")) == ""


def test_other_weights_are_said_and_of_an_older_card_nothing_is():
    assert other_weights("mine", CardSettings(weights_sha256="a" * 64), "a" * 64) == other_weights("mine", OURS, "b" * 64) == ""
    assert other_weights("mine", CardSettings(weights_sha256="a" * 64), "b" * 64) == (
        "the card mine was measured on other weights (sha256 aaaaaaaaaaaa) than these (bbbbbbbbbbbb): its values are those of "
        "another revision or copy of the model"
    )


def test_a_list_of_names_is_told_from_another_of_the_same_length():
    first, second = names_in_short(NAMES[:10]), names_in_short(NAMES[1:11])
    assert names_in_short(NAMES) == "default" and first != second
    assert first.startswith("10 names, sha256 ") and first == names_in_short(list(NAMES[:10]))


@pytest.mark.parametrize(
    "line",
    [
        'prepend_bos = "no"',
        "prepend_bos = 0",
        'weights = "cooked"',
        'dtype = "int8"',
        "names = 99",
        "weights_sha256 = 7",
        "prompts = 0",
        "prompts = true",
        "seed = -1",
        "colour = 3",
    ],
)
def test_settings_that_no_run_could_have_are_refused(tmp_path, line):
    path = tmp_path / "mine.toml"
    path.write_text(f"[settings]\n{line}\n[shape]\nlayers = 2\nheads = 2\n", encoding="utf-8")
    with pytest.raises(CardError, match=r"\[settings\].*" + line.partition(" ")[0]) as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


def test_the_shipped_cards_say_how_they_were_measured():
    mini, gpt2 = find_card("mini"), find_card("gpt2-small")
    assert (mini.settings, mini.basis) == (OURS, MEASURED)
    assert (gpt2.settings.prepend_bos, gpt2.basis) == (False, PUBLISHED)
    said = re.fullmatch(
        r"circuit-claims discover: (\d+) prompts of the discovery half, seed (\d+), without BOS, (\w+) weights",
        mini["faithfulness"].source,
    )
    assert said and (int(said[1]), int(said[2]), said[3]) == (OURS.prompts, OURS.seed, OURS.weights)


@pytest.mark.parametrize("chapter", ["mini/greater_than", "gpt2-small/greater_than", "gpt2-small/acronyms"])
def test_a_chapter_whose_prompts_begin_with_BOS_whatever_a_run_is_told_says_so(chapter):
    assert tomllib.loads((CARD_DIR / f"{chapter}.toml").read_text(encoding="utf-8"))["settings"] == {"prepend_bos": True}


def test_discovery_writes_the_settings_and_that_it_measured(tmp_path):
    texts = {"title": "mine", "found": {}, "findings": {}, "source": "found so", "provenance": ""}
    card = card_text.card_text(**texts, models=["mine"], shape=(2, 2), settings=OURS)
    chapter = card_text.chapter_text(**texts, settings=CardSettings(prepend_bos=True))
    path = tmp_path / "mine.toml"
    card_text.write(path, card, {"years": chapter})
    assert (read_card(path).settings, read_card(path).basis) == (OURS, MEASURED)
    assert "\n[settings]\nprepend_bos = true\n" in (tmp_path / "mine" / "years.toml").read_text()
    embedded = (CARD_DIR / "mini.toml").read_text(encoding="utf-8")
    block = card[card.index("basis = ") : card.index("[shape]")]
    assert block in embedded, "the embedded model's card is as discovery writes it"
    assert "[settings]" not in card_text.chapter_text(**texts, settings=CardSettings()), "nothing where nothing is fixed"


CLAIM = "def test_a(subject, expect):\n    expect(sizes(2, 2)).above(1)\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], ""),
        (["--prepend-bos"], "the card mini was measured without BOS, and this run is with BOS: its values may not apply"),
        (
            ["--weights=raw", "--prepend-bos"],
            "the card mini was measured without BOS and with processed weights, and this run is with BOS and with raw weights: "
            "its values may not apply",
        ),
    ],
)
def test_the_header_and_the_report_say_that_a_run_is_not_as_its_card_was_measured(project, options, says):
    result, _ = claimed(project, CLAIM, *options)
    header = [line for line in result.outlines if line.startswith("the card mini was")]
    assert header == ([says] if says else [])
    for name in ("report.html", "report.md"):
        page = (project.path / "report" / name).read_text(encoding="utf-8")
        top = page[: page.index("weights sha256")] if name == "report.md" else page[: page.index('class="filters"')]
        assert ("its values may not apply" in top) == bool(says) and says[1:] in top


def of_mini(path, settings: str = "", end: str = "") -> str:
    """A card of mini's shape, as discovery writes one; the options that a run takes it with."""
    path.write_text(f'basis = "measured"\n[settings]\n{settings}\n[shape]\nlayers = 4\nheads = 8\n{end}', encoding="utf-8")
    return f"--card={path}"


@pytest.mark.parametrize(("subject", "said"), [("mini", True), ("shuffled:mini", False)])
def test_the_header_and_the_report_say_that_the_card_is_of_other_weights_but_of_a_control(project, tmp_path, subject, said):
    card = of_mini(tmp_path / "mine.toml", 'weights_sha256 = "' + "a" * 64 + '"')
    result, _ = claimed(project, CLAIM, card, f"--subject={subject}")
    says = "the card mine was measured on other weights (sha256 aaaaaaaaaaaa)"
    assert len([line for line in result.outlines if line.startswith(says)]) == said
    page = (project.path / "report" / "report.html").read_text(encoding="utf-8")
    assert ("The card mine was measured on other weights" in page) is said


def test_the_card_of_the_very_weights_is_that_of_no_others(project, tmp_path):
    sha256 = prepare(Settings("mini", "none")).folder.sha256()
    result, _ = claimed(project, CLAIM, of_mini(tmp_path / "mine.toml", f'weights_sha256 = "{sha256}"'))
    assert not [line for line in result.outlines if "other weights" in line]


def test_the_header_and_the_report_say_that_the_card_is_not_finished(project, tmp_path):
    card = of_mini(tmp_path / "mine.toml", end='[unfinished]\nmissing = ["backups", "signals"]\ndone = []\n')
    result, _ = claimed(project, CLAIM, card)
    says = "the card mine is not finished: 2 steps of `circuit-claims discover` are missing on it, the first 'backups'"
    assert [line for line in result.outlines if line.startswith(says)]
    assert "card mine is not finished" in (project.path / "report" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", ["unfinished = 3", "[unfinished]\nmissing = 3", "[unfinished]\nmissing = [3]"])
def test_an_unfinished_table_that_discovery_cannot_have_written_is_refused(tmp_path, table):
    path = tmp_path / "mine.toml"
    path.write_text(f"{table}\n[shape]\nlayers = 2\nheads = 2\n", encoding="utf-8")
    with pytest.raises(CardError, match=r"has an .unfinished. without a list of what is missing"):
        read_card(path)
