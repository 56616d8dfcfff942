"""Sentences of claims where the card's numbers were measured and not published."""

import ast
from pathlib import Path

import pytest

from circuit_claims.cards.card import MEASURED, PUBLISHED
from circuit_claims.verdicts.basis import as_measured, as_of_another
from tests.support.claim_projects import claimed

ROOT = Path(__file__).parents[2]
#: Of what a claim brings along and is published whatever a card says.
BROUGHT_ALONG = ("the published prompt", "the published text", "two published names")


def sentences() -> dict[str, str]:
    """The first line of every claim's docstring, by file and name."""
    found = {}
    for path in sorted((ROOT / "claims").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path.stem}::{node.name}"] = (ast.get_docstring(node) or "").splitlines()[0]
    return found


def test_nothing_measured_is_called_published():
    told = {name: as_measured(said) for name, said in sentences().items() if "ublish" in said}
    assert len(told) > 100
    for name, said in told.items():
        rest = said
        for phrase in BROUGHT_ALONG:
            rest = rest.replace(phrase, "")
        assert "ublish" not in rest, name
        assert (said[0].isupper() and said.endswith(".") and "card" in said) or said != rest, name


def test_a_sentence_without_the_word_stays_as_it_is():
    plain = {name: said for name, said in sentences().items() if "ublish" not in said}
    changed = {name for name, said in plain.items() if as_measured(said) != said}
    assert len(plain) > 100
    assert changed == {
        "test_early_heads::test_early_heads_do_the_same_on_random_tokens",
        "test_year_spans::test_the_heads_that_carry_most_at_END_are_the_published_ones",
    }


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        ("The mean is the published one.", "The mean is the one on its card."),
        ("It keeps the published share of it.", "It keeps its card's share of it."),
        ("The published scores are near.", "Its card's scores are near."),
        ("It costs as often as published.", "It costs as often as on its card."),
        ("After the published prompt, it is the published one.", "After the published prompt, it is the one on its card."),
        ("the mean is unpublished and the publishedness is none", "the mean is unpublished and the publishedness is none"),
    ],
)
def test_words_of_publication_are_replaced(said, measured):
    assert as_measured(said) == measured


@pytest.mark.parametrize("whose", ["GPT-2 small", r"a\1 {row}"])
def test_another_models_published_numbers_are_called_so(whose):
    """Wherever a claim speaks of publication, the sentence says for whom, but of what the claim brings along."""
    speaks = {name: said for name, said in sentences().items() if "ublish" in said}
    for name, said in speaks.items():
        told, rest = as_of_another(said, whose), said
        for phrase in (*BROUGHT_ALONG, "the published, small", "the published, nearly whole,"):
            rest = rest.replace(phrase, "")
        assert whose in told or "ublish" not in rest, name
    plain = {said for said in sentences().values() if "ublish" not in said}
    changed = [said for said in plain if as_of_another(said, whose) != said]
    assert [said.endswith("are the authors'.") for said in changed] == [True]


CLAIM = 'def test_a(expect):\n    """The mean is the published one."""\n    expect(sizes(2, 2), "made up").above(1)\n'
CARD = 'basis = "{basis}"\nmodels = ["{model}"]\n[shape]\nlayers = 4\nheads = 8\n'


@pytest.mark.parametrize(
    ("model", "basis", "said"),
    [
        ("mini", PUBLISHED, "The mean is the published one."),
        ("mini", MEASURED, "The mean is the one on its card."),
        ("somebody/else", PUBLISHED, "The mean is the one published for mine."),
        ("somebody/else", MEASURED, "The mean is the one on the card."),
    ],
)
def test_a_rows_sentence_follows_from_what_its_card_is(project, model, basis, said):
    (project.path / "mine.toml").write_text(CARD.format(model=model, basis=basis), encoding="utf-8")
    _, [row] = claimed(project, CLAIM, "--card=mine.toml")
    assert (row["statement"], row["claim_id"]) == (said, "demo/x/a")


def test_a_measured_card_is_no_place_where_a_value_is_published():
    from circuit_claims.cards.card import Card
    from circuit_claims.untested import Untested

    bare = Card("made-up", "", (), 1, 1, {}, {})
    with pytest.raises(Untested) as caught:
        bare["facts_answered"]
    assert "published" not in str(caught.value), "it stands on the embedded model's card alone"
    with pytest.raises(Untested, match=r"it is published for GPT-2 small\)"):
        bare["logit_difference"]
