"""What the words of a claim's sentence ask for at least, or at most, whatever a card says.

A card's bound follows what was found: on a model that prefers IO on 7 % of prompts, its card would have "IO outranks S on
nearly every prompt" mean 7 %, and it would hold. So a sentence with such a word takes its bound from both: the card's, and the
word's. What discovery finds short of the word, it leaves out of the card, with the reason. Where there is no card at all, the
word alone is the bound: `at_least(card.get("prefers_io"), NEARLY_EVERY, "nearly every prompt")`. A bound that is the word's is
a definition, whatever card it took the place of.
"""

import dataclasses

from circuit_claims.cards.bases import DEFINITION
from circuit_claims.cards.schema import Published

#: Of prompts: nine in ten.
NEARLY_EVERY = 0.9
#: Of prompts: one in ten.
RARELY = 0.1
#: Of a share: four fifths.
NEARLY_WHOLE = 0.8
#: Of a share, or of attention: over half.
MOST = 0.5
#: Of a share: a quarter.
LITTLE = 0.25
#: Of a share: a tenth, and half of it more for another sample.
NEXT_TO_NOTHING = 0.15
#: Of a share: a tenth.
GOOD_PART = 0.1
#: Of all heads, or all features: a quarter.
FEW = 0.25


def at_least(bound: Published | None, floor: float, word: str) -> Published:
    """The card's bound from below, or the word's where that asks for more, or there is no card.

    word: how the report says it.
    """
    if bound is None:
        source = f"no card; the bound: {word}, at least {floor:g}"
        return Published(word, float(floor), float(floor), None, "", source, basis=DEFINITION)
    low = bound.value if bound.low is None else bound.low
    if low >= floor:
        return bound
    high = None if bound.high is None else max(bound.high, floor)
    source = _said(bound, word, f"at least {floor:g}")
    return dataclasses.replace(bound, low=floor, high=high, source=source, basis=DEFINITION, card="")


def at_most(bound: Published | None, ceiling: float, word: str) -> Published:
    """The card's bound from above, or the word's where that asks for more, or there is no card.

    word: how the report says it.
    """
    if bound is None:
        source = f"no card; the bound: {word}, at most {ceiling:g}"
        return Published(word, float(ceiling), None, float(ceiling), "", source, basis=DEFINITION)
    high = bound.value if bound.high is None else bound.high
    if high <= ceiling:
        return bound
    low = None if bound.low is None else min(bound.low, ceiling)
    source = _said(bound, word, f"at most {ceiling:g}")
    return dataclasses.replace(bound, low=low, high=ceiling, source=source, basis=DEFINITION, card="")


def few(count: float, of: int) -> int:
    """How many of `of` a claim may call few: as many as the card says, and no more than a quarter."""
    return max(1, min(int(count), int(FEW * of)))


def _said(bound: Published, word: str, means: str) -> str:
    return f"{bound.source}; the bound: {word}, {means}"
