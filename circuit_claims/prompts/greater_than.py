"""Year spans: "The war lasted from the year 1732 to the year 17", and which two digits come next.

Source: Hanna et al. 2023, section 2, and the authors' code (`dataset.py`, `utils.py`, `potential_nouns.txt`): 120 nouns, each
one token for GPT-2's tokenizer with a space before; years of two tokens, [XX][YY], without the first and the last such year of
each century; the corrupted prompt has YY = 01. The authors take years from 1000 on. Here they begin with 1100, since "1001" is
[100][1] for GPT-2's tokenizer: a prompt of that century does not pair with its corruption position by position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from circuit_claims.prompts.batch import TokenizationError, bare_token, name_token
from circuit_claims.prompts.source import Corruptions, Half, half_of_text, number_of
from circuit_claims.prompts.word_tokens import all_inside
from circuit_claims.untested import Untested

NOUNS: tuple[str, ...] = tuple(
    """
    abduction accord affair agreement appraisal assaults assessment attack attempts campaign captivity case challenge chaos
    clash collaboration coma competition confrontation consequence conspiracy construction consultation contact contract
    convention cooperation custody deal decline decrease demonstrations development disagreement disorder dispute domination
    dynasty effect effort employment endeavor engagement epidemic evaluation exchange existence expansion expedition
    experiments fall fame flights friendship growth hardship hostility illness impact imprisonment improvement incarceration
    increase insurgency invasion investigation journey kingdom marriage modernization negotiation notoriety obstruction
    operation order outbreak outcome overhaul patrols pilgrimage plague plan practice process program progress project pursuit
    quest raids reforms reign relationship retaliation riot rise rivalry romance rule sanctions shift siege slump stature stint
    strikes study test testing tests therapy tour tradition treaty trial trip unemployment voyage warfare work
    """.split()
)

#: The nouns of `mini`'s training text (circuit_claims/prompts/mini_words.py), for a tokenizer that does not know all of the
#: published ones.
SPANS: tuple[str, ...] = tuple(
    """
    war siege reign conflict campaign voyage expedition rebellion crisis drought famine plague epidemic trial strike alliance
    marriage friendship study project construction tour journey revolution occupation truce empire dynasty feud raid battle
    program debate peace
    """.split()
)
#: Fewer nouns than this make no sample.
FEWEST_NOUNS = 20

#: What stands before the first year, and between it and the second: as published, and a relative on which the same circuit
#: was tried (the authors' sequence_generalization.py).
FORMS: dict[str, tuple[str, str]] = {
    "lasted": (" The {noun} lasted from the year ", " to the year "),
    "started": (" The {noun} started in the year ", " and ended in the year "),
}

CENTURIES: tuple[int, ...] = tuple(range(11, 19))
CORRUPTED = 1


@dataclass(frozen=True)
class YearPrompt:
    """A year span up to the century of its second year.

    start: YY, what the second year is compared with, in a corrupted prompt too; shown: the last two digits of the first year.
    """

    noun: str
    century: int
    start: int
    shown: int
    form: str = "lasted"

    @property
    def template(self) -> str:
        """What prompts resemble each other by: the noun is all of the sentence that changes besides the years."""
        return self.noun

    @property
    def answers(self) -> tuple[str, str]:
        """YY + 1 and YY − 1, which cutoff sharpness compares."""
        return f"{self.start + 1:02d}", f"{self.start - 1:02d}"

    @cached_property
    def _pieces(self) -> tuple[str, str, str]:
        before, between = FORMS[self.form]
        return before.format(noun=self.noun) + str(self.century), f"{self.shown:02d}", between + str(self.century)

    @property
    def text(self) -> str:
        """The whole prompt, without a BOS token; as published, it begins with a space (`<|endoftext|> The ...`)."""
        return "".join(self._pieces)

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """Where the first year's last digits stand: (role, first character, one past the last)."""
        begin = len(self._pieces[0])
        return (("YY", begin, begin + 2),)

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "YearPrompt":
        """The prompt with 01 for YY, to be judged by the old YY.

        Raises ValueError for any other change.
        """
        if change != "01":
            raise ValueError(f"unknown change {change!r}: the one there is is '01'")
        return replace(self, shown=CORRUPTED)


@dataclass(frozen=True)
class Years:
    """Which year spans are meant: nouns × first years, and which half of the pairs of them."""

    nouns: tuple[str, ...]
    years: tuple[int, ...]
    half: Half | None = "verdict"
    form: str = "lasted"

    corruptions: ClassVar[Corruptions] = Corruptions.only("01")
    roles: ClassVar[tuple[str, ...]] = ("YY", "END")

    def __str__(self) -> str:
        which = "the published nouns" if self.nouns == NOUNS else "nouns of mini's training text"
        spans = "year spans" + ("" if self.form == "lasted" else " ('started ... and ended ...')")
        return f"{spans}, {which}, {len(self.years)} years from {self.years[0]} to {self.years[-1]}"

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompts these are, in words, `under` a change."""
        return f"{self}{under}"

    def stream(self, seed: int) -> Iterator[YearPrompt]:
        """Noun and year, each uniformly, by seed, no pair twice.

        Raises ValueError where there is no further pair.
        """
        random = np.random.default_rng([seed, number_of(repr(self))])
        pairs = len(self.nouns) * len(self.years)
        for pair in random.permutation(pairs):
            noun, year = self.nouns[pair // len(self.years)], self.years[pair % len(self.years)]
            if self.half in (None, half_of(noun, year)):
                yield YearPrompt(noun, year // 100, year % 100, year % 100, self.form)
        raise ValueError(f"the population ({self}) holds no more than {pairs} prompts: ask for fewer")


def half_of(noun: str, year: int) -> Half:
    """Which half a noun with a year belongs to: the same on every machine and in every run."""
    return half_of_text(f"{noun}|{year}")


def years_for(tokenizer: Any) -> Years:
    """The year spans that a tokenizer can carry: the published ones where it knows all of their nouns, else mini's.

    Raises Untested where the words, or two digits as one token, are not to be had.
    """
    if tokenizer.bos_token_id is None:
        raise Untested("this tokenizer has no BOS token, and year spans were published with one before them")
    known = tuple(noun for noun in NOUNS if _is_one_token(tokenizer, noun))
    nouns = NOUNS if known == NOUNS else tuple(noun for noun in SPANS if _is_one_token(tokenizer, noun))
    if len(nouns) < FEWEST_NOUNS or not knows_form(tokenizer, "lasted"):
        raise Untested(
            "the subject's vocabulary has not the words of 'The war lasted from the year 1732 to the year 17': "
            "take a subject that has them"
        )
    years = tuple(year for century in CENTURIES for year in _years_of(tokenizer, century))
    if not years:
        raise Untested("the subject's tokenizer does not write years as two tokens of two digits: take a subject that does")
    return Years(nouns, years)


def knows_form(tokenizer: Any, form: str) -> bool:
    """Whether each word of a form is one token."""
    return all(_is_one_token(tokenizer, word) for word in " ".join(FORMS[form]).split() if word != "{noun}")


def year_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The ids of "00" to "99" as they end a year.

    Raises TokenizationError where one is not a single token.
    """
    return tuple(bare_token(tokenizer, f"{year:02d}") for year in range(100))


def _years_of(tokenizer: Any, century: int) -> tuple[int, ...]:
    """The years of a century that are [XX][YY], without the first and the last; none where its 01 is no such year."""
    try:
        first, digits = name_token(tokenizer, str(century)), year_tokens(tokenizer)
    except TokenizationError:
        return ()
    texts = [f" {century}{year:02d}" for year in range(100)]
    found = [year for year, ids in enumerate(all_inside(tokenizer, texts)) if ids == [first, digits[year]]]
    if CORRUPTED not in found:
        return ()
    return tuple(100 * century + year for year in found if year > 0)[1:-1]


def _is_one_token(tokenizer: Any, word: str) -> bool:
    try:
        name_token(tokenizer, word)
    except TokenizationError:
        return False
    return True
