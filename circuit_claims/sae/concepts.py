"""What a feature is said to mean: at which tokens of a text it should be active, and which tokens it should make likelier.

A meaning is stated before any feature is looked at, and knows nothing of the autoencoder; which feature has it, the card says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from circuit_claims.prompts.batch import TokenizationError, name_token
from circuit_claims.prompts.words import NAMES, PLACES

#: Names that may each have a feature of their own: the first of the suite's list, which have no part in choosing them.
SINGLED_OUT = NAMES[:4]
#: Rows of token ids, and which of their tokens are meant.
Rows = Int[np.ndarray, "row pos"]
Marks = Bool[np.ndarray, "row pos"]


@dataclass(frozen=True)
class Lexicon:
    """Which token ids of one tokenizer are names, places, capitals and numbers; which end a document; and some names by one."""

    names: frozenset[int]
    ids_of: Mapping[str, frozenset[int]]
    places: frozenset[int]
    capitals: frozenset[int]
    numbers: frozenset[int]
    ends: frozenset[int]


@dataclass(frozen=True)
class Meaning:
    """One meaning.

    where: the tokens of some rows at which a feature that means this is active.
    predicts: the tokens that it makes likelier to come next; None where the meaning says nothing of that.
    """

    where: Callable[[Lexicon, Rows], Marks]
    predicts: Callable[[Lexicon], frozenset[int]] | None = field(default=None)


def lexicon(tokenizer: Any, special: tuple[int, ...]) -> Lexicon:
    """The words of the suite's prompts, and of the embedded model's text, that are one token of this tokenizer.

    special: token ids that end a document.
    """
    from circuit_claims.prompts.mini_words import ALL_NAMES, CAPITALS

    def ids(words: Any) -> frozenset[int]:
        found = set()
        for word in words:
            try:
                found.add(name_token(tokenizer, word))
            except TokenizationError:
                continue
        return frozenset(found)

    texts = {i: word.lstrip("Ġ▁ ") for word, i in tokenizer.get_vocab().items()}
    numbers = {i for i, text in texts.items() if text.isdecimal() and len(text) == 2}
    one_by_one = {name: ids([name]) for name in SINGLED_OUT}
    return Lexicon(
        ids({*NAMES, *ALL_NAMES}), one_by_one, ids(PLACES), ids(CAPITALS.values()), frozenset(numbers), frozenset(special)
    )


def one_of(rows: Rows, ids: frozenset[int]) -> Marks:
    """Which tokens are among `ids`."""
    return np.isin(rows, np.fromiter(ids, dtype=np.int64, count=len(ids)))


def before(marks: Marks) -> Marks:
    """The tokens after which a marked one comes."""
    return np.concatenate([marks[:, 1:], np.zeros_like(marks[:, :1])], axis=1)


def said_before(rows: Rows, marks: Marks, ends: frozenset[int]) -> Marks:
    """Of the marked tokens, those whose token stands earlier in the same document."""
    found = np.zeros_like(marks)
    for i, row in enumerate(rows):
        seen: set[int] = set()
        for p, token in enumerate(row.tolist()):
            if token in ends:
                seen.clear()
            elif marks[i, p]:
                found[i, p] = token in seen
                seen.add(token)
    return found


def _is_word(name: str, words: Lexicon, rows: Rows) -> Marks:
    return one_of(rows, words.ids_of[name])


def _year_digits(words: Lexicon, rows: Rows) -> Marks:
    """The second of two numbers that stand side by side: the last digits of a year of four."""
    number = one_of(rows, words.numbers)
    return number & np.concatenate([np.zeros_like(number[:, :1]), number[:, :-1]], axis=1)


#: What features are looked for, by the words that the report and the card use.
MEANINGS: dict[str, Meaning] = {
    "a name": Meaning(lambda words, rows: one_of(rows, words.names)),
    **{f"the name {name}": Meaning(partial(_is_word, name)) for name in SINGLED_OUT},
    "a place": Meaning(lambda words, rows: one_of(rows, words.places)),
    "a name said before": Meaning(lambda words, rows: said_before(rows, one_of(rows, words.names), words.ends)),
    "the last digits of a year": Meaning(_year_digits),
    "a name comes next": Meaning(lambda words, rows: before(one_of(rows, words.names)), lambda words: words.names),
    "a place comes next": Meaning(lambda words, rows: before(one_of(rows, words.places)), lambda words: words.places),
    "a capital comes next": Meaning(lambda words, rows: before(one_of(rows, words.capitals)), lambda words: words.capitals),
    "the last digits of a year come next": Meaning(
        lambda words, rows: before(_year_digits(words, rows)), lambda words: words.numbers
    ),
}
