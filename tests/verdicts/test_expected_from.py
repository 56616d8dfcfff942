"""The basis of each expectation: published, a definition, the model's own card, or the card of another model."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from circuit_claims.cards.bases import (
    DEFINITION,
    MEASURED_ELSEWHERE,
    PUBLISHED,
    PUBLISHED_ELSEWHERE,
    RE_MEASURED,
)
from circuit_claims.cards.card import Card, Published
from circuit_claims.cards.find import find_card
from circuit_claims.cards.floors import at_least, at_most
from circuit_claims.heads import Head
from circuit_claims.measure.samples import Grid, Samples
from circuit_claims.subjects.card_choice import card_for, is_of
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect
from circuit_claims.verdicts.rows import Row
from tests.support.paper import Paper

ROOT = Path(__file__).parents[2]
LEVEL = Samples(np.full(60, 3.0) + np.linspace(-0.1, 0.1, 60), "x", "logits", [i % 15 for i in range(60)])


def card(subject: str, named: str | None = None) -> Card:
    found = card_for(subject, named)
    assert found is not None
    return found


def row_of(say, of: Card | None = None) -> Row:
    """The row that one expectation of `LEVEL`, about 3, makes."""
    paper = Paper(of)
    say(Expect(paper, Budget(120, 960), seed=0)(LEVEL))
    return paper.rows[0]


def sweep_row(say, of: Card | None) -> Row:
    """The row of an expectation of a sweep over 12 layers of 12 heads, in which L9H9 is highest and L0H0 lowest."""
    values = np.zeros((60, 12, 12)) + np.linspace(0, 0.1, 60)[:, None, None]
    values[:, 9, 9], values[:, 0, 0] = 5, -5
    paper = Paper(of)
    say(Expect(paper, Budget(120, 960), seed=0)(Grid(values, "sweep", "logits", [i % 15 for i in range(60)])))
    return paper.rows[0]


@pytest.mark.parametrize(
    ("subject", "named", "basis"),
    [
        ("gpt2", None, PUBLISHED),
        ("gpt2-small", None, PUBLISHED),
        ("openai-community/gpt2@main", None, PUBLISHED),
        ("mini", None, RE_MEASURED),
        ("planted", None, PUBLISHED_ELSEWHERE),
        ("planted:without-induction", None, PUBLISHED_ELSEWHERE),
        ("shuffled:gpt2", None, PUBLISHED_ELSEWHERE),
        ("somebody/a-fine-tune", "gpt2-small", PUBLISHED_ELSEWHERE),
        ("openai-community/gpt2:gpt2.Q4_K_M.gguf", "gpt2-small", PUBLISHED_ELSEWHERE),
        ("random:mini", None, MEASURED_ELSEWHERE),
        ("somebody/a-fine-tune", "mini", MEASURED_ELSEWHERE),
    ],
)
def test_a_cards_numbers_are_the_subjects_own_or_another_models(subject, named, basis):
    found = card(subject, named)
    assert {value.basis for value in found.values.values()} == {basis}
    assert {table.basis for table in found.tables.values()} == {basis}
    row = row_of(lambda expectation: expectation.above(dataclasses.replace(found["logit_difference"], low=2.0, value=2.0)))
    assert (row.basis, row.card) == (basis, found.title)
    assert found.title in ("GPT-2 small", "mini, the embedded model")


def test_published_numbers_are_not_those_of_a_copy_in_a_folder(tmp_path):
    (tmp_path / "gpt2").mkdir()
    assert is_of(find_card("gpt2-small"), "gpt2") and not is_of(find_card("gpt2-small"), str(tmp_path / "gpt2"))


def test_a_measured_card_is_of_the_folder_or_file_that_it_lists(tmp_path):
    found = dataclasses.replace(find_card("mini"), models=("my-model",))
    (tmp_path / "my-model").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "my-model.gguf").touch()
    assert is_of(found, str(tmp_path / "my-model")) and is_of(found, str(tmp_path / "my-model.gguf"))
    assert not is_of(found, str(tmp_path / "other"))


@pytest.mark.parametrize(
    "say",
    [
        lambda expectation: expectation.above(0),
        lambda expectation: expectation.below(4),
        lambda expectation: expectation.between(2, 4),
        lambda expectation: expectation.near(3, within=1),
        lambda expectation: expectation.always_above(1),
        lambda expectation: expectation.above(Published("k", 1.0, None, None, "", "made up in a claim")),
    ],
    ids=["above", "below", "between", "near", "always above", "a number that a claim makes up"],
)
def test_a_threshold_that_the_claim_states_is_a_definition(say):
    row = row_of(say, card("gpt2"))
    assert (row.basis, row.card, row.beside) == (DEFINITION, "", [])


@pytest.mark.parametrize("subject", ["gpt2", "mini", "planted"])
def test_a_word_that_takes_the_place_of_a_cards_bound_is_a_definition(subject):
    bound = dataclasses.replace(card(subject)["name_mover_joint_recovery"], value=1.0, low=1.0, high=3.5)
    kept, replaced = at_least(bound, 0.5, "half"), at_least(bound, 2.0, "two")
    assert row_of(lambda e: e.above(kept)).basis == card(subject).basis_of_values != DEFINITION
    assert (row_of(lambda e: e.above(replaced)).basis, row_of(lambda e: e.above(replaced)).card) == (DEFINITION, "")
    kept, replaced = at_most(bound, 3.6, "much"), at_most(bound, 3.4, "less")
    assert row_of(lambda e: e.below(kept)).basis == card(subject).basis_of_values
    assert row_of(lambda e: e.below(replaced)).basis == DEFINITION
    assert {at_least(None, 2, "two").basis, at_most(None, 2, "two").basis} == {DEFINITION}


def test_a_tables_cell_and_what_follows_from_it_have_the_tables_basis():
    signals = card("mini").table("signals")
    cell = signals["original S", "original position"]
    assert (cell.basis, cell.card) == (RE_MEASURED, "mini, the embedded model")
    for follows in (cell.bound(2.0), signals.bound(2.0)):
        assert (row_of(lambda e, low=follows: e.above(low)).basis, follows.value, follows.key) == (RE_MEASURED, 2.0, "")
    between = row_of(lambda e: e.between(1, cell.bound(4)))
    assert (between.basis, between.expected_low, between.expected_high) == (RE_MEASURED, 1, 4)


@pytest.mark.parametrize(
    ("of", "basis"),
    [("gpt2", PUBLISHED), ("planted", PUBLISHED_ELSEWHERE), (None, DEFINITION)],
)
def test_the_heads_on_top_are_the_expectation(of, basis):
    found = card(of) if of else None
    row = sweep_row(lambda e: e.top(1).contains([Head(9, 9)]), found)
    assert (row.basis, row.card) == (basis, found.title if found else "") and row.expected_high == 1


def test_heads_that_no_card_names_are_the_claims_own():
    assert sweep_row(lambda e: e.bottom(1).contains([Head(0, 0)]), card("gpt2")).basis == DEFINITION
    assert sweep_row(lambda e: e.bottom(1).contains([Head(0, 0)]), Card.none(12, 12, "no card")).basis == DEFINITION


def test_a_k_from_a_card_has_the_cards_basis():
    rank = card("gpt2")["bright_heads"]
    row = sweep_row(lambda e: e.bottom(rank).contains([Head(0, 0)]), None)
    assert (row.basis, row.expected_high) == (PUBLISHED, rank.value)


def test_beside_an_own_value_stands_what_is_published_for_another_model():
    own, published = card("mini")["logit_difference"], find_card("gpt2-small")["logit_difference"]
    (beside,) = row_of(lambda e: e.above(dataclasses.replace(own, low=1.0))).beside
    expected = {"value": 3.56, "low": published.low, "high": published.high, "model": "GPT-2 small", "source": published.source}
    assert beside == expected
    # The number beside is no expectation: a word that takes the bound's place leaves it there.
    assert at_least(own, 100, "much").beside == own.beside
    assert not card("gpt2")["logit_difference"].beside and not card("planted")["logit_difference"].beside


def test_a_place_in_one_model_is_no_other_models():
    mini = card("mini")
    (beside,) = mini.table("signals")["random S", "original position"].beside
    assert (beside.value, beside.model) == (
        find_card("gpt2-small").table("signals")["random S", "original position"].value,
        "GPT-2 small",
    )
    assert mini.table("faithfulness_without_BOS")["3", "ABBA"].beside, "templates are the same for all models"
    assert not mini.table("induction_score")["L2", "H3"].beside
    both = dataclasses.replace(find_card("gpt2-small").table("greater_than_direct_effects"), beside=())
    assert not dataclasses.replace(both, beside=(both,))["8", "share"].beside


def test_a_number_in_another_unit_is_not_beside(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'basis = "measured"\nmodels = ["mine"]\n[shape]\nlayers = 2\nheads = 2\n[values.logit_difference]\nvalue = 1\n'
    path.write_text(text + 'unit = "nats"\nsource = "me"\n', encoding="utf-8")
    assert find_card(str(path))["logit_difference"].beside == ()
    path.write_text(text + 'unit = "logits"\nsource = "me"\n', encoding="utf-8")
    assert [beside.value for beside in find_card(str(path))["logit_difference"].beside] == [3.56]


def test_no_claim_takes_a_cards_number_without_its_basis():
    """A bound such as `card["x"].value + 0.5` would count as a definition: it has to be `card["x"].bound(...)`."""
    bounds = {"above", "below", "near", "between", "rate_at_least", "rate_at_most", "top", "bottom"}
    bounds |= {"always_above", "always_below", "always_within"}
    seen, bare = 0, []
    for path in sorted((ROOT / "claims").rglob("test_*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in bounds):
                continue
            seen += 1
            bare += [f"{path.name}:{call.lineno}" for argument in call.args if _bare(argument)]
    assert seen > 200 and not bare


def _bare(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("bound", "few"):
        return False
    if isinstance(node, ast.Attribute) and node.attr in ("value", "low", "high", "within"):
        return True
    return any(map(_bare, ast.iter_child_nodes(node)))


@pytest.mark.parametrize(("subject", "whose"), [("gpt2", None), ("planted", "published for GPT-2 small"), ("mini", None)])
def test_a_figure_says_whose_the_numbers_are_that_it_shows_as_expected(subject, whose):
    samples = dataclasses.replace(LEVEL, distribution=True)
    bound = dataclasses.replace(card(subject)["logit_difference"], low=1.0)
    paper = Paper()
    expect = Expect(paper, Budget(120, 960), seed=0)
    expect(samples).above(bound)
    expect(samples).above(1)
    figures = [row.figure for row in paper.rows]
    assert all(figure is not None and figure["expected"] == [1.0, None] for figure in figures)
    assert [figure.get("whose") for figure in figures if figure] == [whose, None]
