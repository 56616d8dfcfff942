"""What features are said to mean: which tokens, on rows written by hand."""

import numpy as np
import pytest

from circuit_claims.sae.concepts import MEANINGS, SINGLED_OUT, Lexicon, before, lexicon, said_before
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import load_tokenizer

END = 0
WORDS = Lexicon(
    names=frozenset({1, 2}),
    ids_of={SINGLED_OUT[0]: frozenset({2})},
    places=frozenset({3}),
    capitals=frozenset({4}),
    numbers=frozenset({5, 6}),
    ends=frozenset({END}),
)


def marked(name: str, row: list[int]) -> list[int]:
    """The positions at which a meaning holds."""
    return np.flatnonzero(MEANINGS[name].where(WORDS, np.array([row]))[0]).tolist()


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("a name", [1, 9, 2, 3], [0, 2]),
        (f"the name {SINGLED_OUT[0]}", [1, 2, 9, 2], [1, 3]),
        ("a place", [1, 3, 9, 3], [1, 3]),
        ("a name said before", [1, 2, 1, 9, 2], [2, 4]),
        ("a name said before", [1, END, 1, 1], [3]),
        ("the last digits of a year", [9, 5, 6, 9, 6], [2]),
        ("the last digits of a year", [5, 9, 6], []),
        ("a name comes next", [9, 1, 9, 2], [0, 2]),
        ("a place comes next", [3, 9, 3], [1]),
        ("a capital comes next", [9, 4], [0]),
        ("the last digits of a year come next", [9, 5, 6, 9], [1]),
    ],
)
def test_a_meaning_holds_where_its_words_say(name, row, expected):
    assert marked(name, row) == expected


def test_what_comes_next_is_not_known_at_the_end_of_a_row():
    assert not before(np.array([[True]])).any()
    assert before(np.array([[False, True, True]])).tolist() == [[True, True, False]]


def test_a_name_of_another_row_is_not_a_name_said_before():
    rows = np.array([[1, 2], [1, 2]])
    assert not said_before(rows, rows > 0, frozenset()).any()


def test_the_embedded_models_words_are_in_the_lexicon_and_predicted_words_are_those_that_come_next():
    tokenizer = load_tokenizer(find_folder("mini"))
    words = lexicon(tokenizer, (tokenizer.eos_token_id,))

    def one(word: str) -> int:
        (token,) = tokenizer(f" {word}", add_special_tokens=False).input_ids
        return token

    assert one("Mary") in words.names and one("Mary") not in words.places
    assert one("store") in words.places
    assert one("Paris") in words.capitals
    assert {one("17"), one("32")} <= words.numbers and one("Mary") not in words.numbers
    assert one("7") not in words.numbers, "a year's last digits are two"
    row = tokenizer("The war lasted from the year 1732 to the year 1754.", add_special_tokens=False).input_ids
    found = MEANINGS["the last digits of a year"].where(words, np.array([row]))[0]
    assert [tokenizer.decode([row[i]]).strip() for i in np.flatnonzero(found)] == ["32", "54"]
    predicts = MEANINGS["a capital comes next"].predicts
    assert predicts is not None and predicts(words) == words.capitals


def test_gpt2s_tokenizer_has_names_and_two_digit_numbers(gpt2_folder):
    from transformers import AutoTokenizer

    gpt2_tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    words = lexicon(gpt2_tokenizer, (50256,))
    assert gpt2_tokenizer(" Mary").input_ids[0] in words.names
    digits = {gpt2_tokenizer.decode([i]).strip() for i in words.numbers}
    assert {"32", "99"} <= digits and all(len(d) == 2 for d in digits)
