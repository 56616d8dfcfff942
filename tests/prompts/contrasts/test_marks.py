"""Marked positions in a text, and marks that do not match."""

import pytest

from circuit_claims.prompts.contrasts.marks import Mark, MarksError, read_marks


@pytest.mark.parametrize(
    ("written", "text", "marked"),
    [
        ("The opposite of [word: hot] is", "The opposite of hot is", {"word": "hot"}),
        ("[who:Mary Ann] met [whom:  Bob]", "Mary Ann met  Bob", {"who": "Mary Ann", "whom": " Bob"}),
        ("[ first word : ice cold ] is", "ice cold  is", {"first word": "ice cold "}),
        ("x = [[1, 2]]", "x = [1, 2]", {}),
        ("x = [[[b: 2], 1]]", "x = [2, 1]", {"b": "2"}),
        ("nothing: at all", "nothing: at all", {}),
        ("[größe: 3\n]", "3\n", {"größe": "3\n"}),
    ],
)
def test_a_text_is_read_without_its_marks(written, text, marked):
    found, marks = read_marks(written)
    assert found == text
    assert {mark.name: text[mark.begin : mark.end] for mark in marks} == marked


def test_one_mark_is_read_as_several_are():
    one, two = read_marks("The [word: hot] sun"), read_marks("The [word: hot] [other: sun]")
    assert one == ("The hot sun", (Mark("word", 4, 7),))
    assert two == ("The hot sun", (Mark("word", 4, 7), Mark("other", 8, 11)))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("The opposite of [word: hot is", "has a mark 'word' that is not closed"),
        ("The opposite of word: hot] is", "has a ']' that closes no mark"),
        ("The opposite of [hot] is", "has a '[' that begins no mark"),
        ("[a: The [b: hot] sun]", "has a mark 'b' inside the mark 'a'"),
        ("The [word: ] sun", "has a mark 'word' with nothing in it"),
        ("The [a: hot] and the [a: cold]", "has two marks of the name 'a'"),
        ("The sun [END: is]", "has a mark 'END', a name that every prompt's last token has"),
    ],
)
def test_marks_that_do_not_match_are_one_sentence(written, said):
    with pytest.raises(MarksError) as caught:
        read_marks(written)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
