"""A model that no card goes with: what needs none of it runs, and the rest says how a card would be found."""

import json
import shlex
from pathlib import Path

import pytest

from circuit_claims.cards.card import NONE, Card
from circuit_claims.cards.find import find_card
from circuit_claims.cards.floors import LITTLE, NEARLY_EVERY, at_least, at_most
from circuit_claims.heads import Head
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.card_choice import card_for
from circuit_claims.subjects.subject import Settings, prepare
from circuit_claims.untested import Untested
from tests.support.claim_projects import claimed
from tests.support.tiny_models import save_tiny_gpt2

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16}
ASKED = {
    "a family": lambda card: card.family("name mover"),
    "heads": lambda card: card.heads("name mover"),
    "a value": lambda card: card["logit_difference"],
    "a table": lambda card: card.table("signals"),
    "the circuit": lambda card: card.nodes(),
    "a chosen circuit": lambda card: card.nodes("naive"),
    "the nodes of a family": lambda card: card.nodes_of("name mover"),
    "companions": lambda card: card.companions(Head(0, 0)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that no card lists."""
    return save_tiny_gpt2(tmp_path_factory.mktemp("models") / "nobody's model", **SHAPE)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_whatever_is_asked_of_no_card_is_untested_with_what_to_do(ask):
    with pytest.raises(Untested, match=r"^no card goes with it: find one$"):
        ask(Card.none(2, 2, "no card goes with it: find one"))


def test_no_card_has_no_heads_and_no_settings_to_differ_from():
    card = Card.none(2, 3, "none")
    assert (card.name, card.n_layers, card.n_heads, card.named_heads, card.known_false) == (NONE, 2, 3, (), {})
    assert card.contested("logit_difference") == () and card.settings.prepend_bos is None and not card.measured


def test_of_a_word_that_says_how_much_no_card_leaves_the_words_own_bound():
    missing = Card.none(2, 2, "no card: find one").get("prefers_io")
    least, most = at_least(missing, NEARLY_EVERY, "nearly every"), at_most(missing, LITTLE, "little")
    assert (least.low, least.high, float(least)) == (NEARLY_EVERY, None, NEARLY_EVERY)
    assert (most.low, most.high, float(most)) == (None, LITTLE, LITTLE)
    assert least.source == "no card; the bound: nearly every, at least 0.9" and most.source.endswith("little, at most 0.25")
    assert isinstance(float(at_most(missing, 0, "negative")), float)


def test_a_card_that_lacks_a_value_is_still_asked_for_it():
    card = find_card("mini")
    assert card.get("prefers_io") is card["prefers_io"]
    with pytest.raises(Untested, match="has no value 'mlp0_knockout_logit_difference'"):
        card.get("mlp0 knockout logit difference")


def test_a_model_that_no_card_lists_has_none(folder):
    card = prepare(Settings(str(folder), device="cpu")).card
    assert (card.name, card.n_layers, card.n_heads) == (NONE, SHAPE["n_layer"], SHAPE["n_head"])
    assert card.missing.startswith(f"no card goes with {folder}: find its own with ")
    assert f"`circuit-claims discover --subject {shlex.quote(str(folder))}`" in card.missing


def test_none_is_a_card_that_may_be_asked_for():
    card = prepare(Settings("mini", card=NONE, device="cpu")).card
    assert card.name == NONE and card.missing.startswith("this run is without a card (--card none): ")
    assert "`circuit-claims discover --subject mini`" in card.missing and card.n_layers == find_card("mini").n_layers


def test_a_card_of_another_shape_that_was_named_is_refused(folder):
    with pytest.raises(SubjectError, match=r"12 layers and 12 heads, and .* has 2 and 2: name the right card with --card"):
        prepare(Settings(str(folder), card="gpt2-small", device="cpu"))


@pytest.mark.parametrize(
    ("n_layer", "n_head", "expected"), [(2, 2, None), (12, 2, None), (2, 12, None), (12, 12, "gpt2-small")]
)
def test_a_folder_that_is_called_like_a_model_of_another_shape_has_no_card_of_it(tmp_path, n_layer, n_head, expected):
    folder = tmp_path / "my-gpt2-small-tuned"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": n_layer, "n_head": n_head}))
    found = card_for(str(folder), None)
    assert (found and found.name) == expected
    assert find_card("gpt2-small") == card_for(str(folder), "gpt2-small"), "one that is named is taken, and refused later"


@pytest.mark.parametrize("written", [None, "{", "[]", "{}", '{"text_config": {"num_hidden_layers": 12}}'])
def test_a_config_that_says_nothing_of_the_shape_leaves_the_card(tmp_path, written):
    folder = tmp_path / "my-gpt2-small-tuned"
    folder.mkdir()
    if written is not None:
        (folder / "config.json").write_text(written)
    found = card_for(str(folder), None)
    assert found is not None and found.name == "gpt2-small"


CLAIMS = '''
def test_needs_none(ioi, expect):
    """The mean logit difference is some number."""
    expect(ioi.logit_difference(), "made up").above(-1000)

def test_needs_heads(ioi, card, expect):
    """Some heads do something."""
    expect(ioi.patch(card.heads("name mover"), at="END").recovery(), "made up").above(0)

def test_needs_a_value(ioi, card, expect):
    """A number is as published."""
    expect(ioi.logit_difference()).near(card["logit_difference"])

@pytest.mark.each_head("name mover")
def test_for_each_head(ioi, expect, head):
    """{head} does something."""
    expect(ioi.patch([head], at="END").recovery(), "made up").above(0)

@pytest.mark.each_node
def test_for_each_node(ioi, expect, node):
    """{node} does something."""

@pytest.mark.each_row("signals")
def test_for_each_row(ioi, expect, row):
    """{row} is as published."""
'''


@pytest.mark.parametrize(
    "options", [(), ("--card=none",), ("-n", "1")], ids=["no card goes with it", "none was asked for", "a worker"]
)
def test_a_run_without_a_card_tests_what_it_can_and_says_what_to_do_about_the_rest(project, folder, options):
    result, rows = claimed(project, CLAIMS, f"--subject={folder}", "--prompts=30", "--weights=raw", *options)
    assert result.ret == 0, result.outlines
    command = f"`circuit-claims discover --subject {shlex.quote(str(folder))}`"
    assert [row["verdict"] for row in rows] == ["holds", *["untested"] * 5]
    assert all(command in row["reason"] for row in rows[1:])
    (line,) = [line for line in result.outlines if line.startswith("card: none (")]
    why = "this run is without a card" if "--card=none" in options else f"no card goes with {folder}"
    assert line.startswith(f"card: none ({why}") and command in line
    report = project.path / "report"
    meta = json.loads((report / "claims.json").read_text(encoding="utf-8"))["meta"]
    assert (
        meta["card"] == NONE
        and f"card: none ({meta['why_no_card']})" == line
        and "card_title" not in meta
        and meta["warnings"] == []
    )
    assert why in (report / "report.md").read_text(encoding="utf-8").partition("## ")[0], "the report's facts say it too"
