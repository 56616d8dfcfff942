"""Sequences that have a next member: the four-member prompts of the OV scores, the days, and sentences that count.

Source: the code of Lan, Torr and Barez 2024 ("Towards Interpretable Sequence Continuation", repository seqcont_circuits):
`allTasks_nextScores.ipynb` for the four-member prompts, `generate_datasets.ipynb` and `generate_data.py` for the sentences and
their corruption. The sentences' fillers here are this suite's own, since the authors' are random; they kept those prompts
alone that GPT-2 answers with confidence, which no prompt here was chosen by.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from circuit_claims.prompts.ioi import half_of
from circuit_claims.prompts.source import Corruptions, Half

NUMERALS: tuple[str, ...] = tuple(map(str, range(1, 102)))
NUMBER_WORDS: tuple[str, ...] = tuple("one two three four five six seven eight nine ten eleven twelve".split())
MONTHS: tuple[str, ...] = tuple("January February March April May June July August September October November December".split())
ORDINALS: tuple[str, ...] = tuple("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split())
DAYS: tuple[str, ...] = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
DAY_PROMPT = "If today is {}, tomorrow is"

#: Members shown in a prompt.
SHOWN = 4


@dataclass(frozen=True)
class Task:
    """Prompts of four members in a row, "3 4 5 6", and what the member after each is called: of months, an ordinal.

    members: those that prompts are made of; nexts: for each, what is expected after it; prompts: how many there are.
    """

    name: str
    members: tuple[str, ...]
    nexts: tuple[str, ...]
    prompts: int

    def shown(self) -> list[tuple[int, ...]]:
        """For each prompt, which members it shows."""
        return [tuple(range(start, start + SHOWN)) for start in range(self.prompts)]

    def text(self, shown: Sequence[int]) -> str:
        """One prompt, without BOS."""
        return " ".join(self.members[member] for member in shown)


TASKS: dict[str, Task] = {
    "numerals": Task("numerals", NUMERALS[:-1], NUMERALS[1:], 97),
    "number words": Task("number words", NUMBER_WORDS[:-1], NUMBER_WORDS[1:], 8),
    "months to ordinals": Task("months to ordinals", MONTHS[:-1], ORDINALS[1:], 8),
}

#: Sentences that count, as the authors say them: of people and of things.
SENTENCES: tuple[str, ...] = ("was born in", "done in", "lost in")
THINGS: tuple[str, ...] = tuple(
    """
    Apple Ball Bird Boat Book Box Car Card Cat Chair Coin Corn Cup Desk Dog Door Drum Fan Fish Flag Gate Glass Gold Hand Hat
    Horse House Iron Key King Lamp Leaf Lion Map Milk Moon Oil Pen Phone Pig Queen Rain Ring Road Rock Rose Sand Shoe Sign
    Snow Stone Sun Table Tree Van Wall Wind Wolf Wood Yard
    """.split()
)


@dataclass(frozen=True)
class CountingPrompt:
    """ "Ring done in 3. Desk done in 4. Van done in 5. Cat done in 6. Key done in", and the two numerals that are compared.

    sentence: which of `SENTENCES`. answers: the next numeral and the last one shown; a corrupted prompt keeps its labels.
    random: the numerals that corrupt it.
    """

    sentence: int
    fillers: tuple[str, ...]
    numerals: tuple[int, ...]
    answers: tuple[str, str]
    random: tuple[int, ...]

    @property
    def text(self) -> str:
        """The whole prompt, without a BOS token."""
        told = SENTENCES[self.sentence]
        shown = [f"{who} {told} {number}." for who, number in zip(self.fillers, self.numerals, strict=False)]
        return " ".join([*shown, f"{self.fillers[-1]} {told}"])

    @property
    def template(self) -> int:
        """Prompts with the same answer resemble each other most: they are what intervals resample together."""
        return int(self.answers[0])

    #: No role is asked for but END.
    spans: tuple[tuple[str, int, int], ...] = field(default=(), init=False)

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "CountingPrompt":
        """With "random numerals": four others in no order, of which the last does not follow the one before it.

        Raises ValueError for any other change.
        """
        if change != "random numerals":
            raise ValueError(f"unknown change {change!r}: use 'random numerals'")
        return replace(self, numerals=self.random)


@dataclass(frozen=True)
class Counting:
    """Sentences that count from one of 1 to 8 on, as far as 12 at most.

    names, things: fillers, of people and of things; half: which half of the pairs of a prompt's first two fillers.
    """

    names: tuple[str, ...]
    things: tuple[str, ...]
    half: Half | None = "verdict"
    sentences: tuple[int, ...] = tuple(range(len(SENTENCES)))

    corruptions: ClassVar[Corruptions] = Corruptions.only("random numerals")
    roles: ClassVar[tuple[str, ...]] = ("END",)
    #: The numerals that may stand in a prompt.
    HIGHEST: ClassVar[int] = 12

    def of_the_form_of(self, prompt: CountingPrompt) -> "Counting":
        """The prompts of a prompt's sentence, in both halves: what a mean ablation averages over."""
        return replace(self, sentences=(prompt.sentence,), half=None)

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompts these are, in words."""
        told = ", ".join(f'"{SENTENCES[sentence]}"' for sentence in self.sentences)
        return f"numerals in a row in sentences with {told}{under}"

    def stream(self, seed: int) -> Iterator[CountingPrompt]:
        """Prompts by seed, none twice; the sentences take turns, and so do the numerals that are counted from.

        Raises ValueError where there are too few fillers.
        """
        random = np.random.default_rng([seed, *self.sentences, {"discovery": 0, "verdict": 1, None: 2}[self.half]])
        if min(len(self.names), len(self.things)) < 8:
            raise ValueError("fewer than 8 names or things can stand at the beginning of a sentence: give others")
        seen: set[str] = set()
        while True:
            for start in random.permutation(self.HIGHEST - SHOWN) + 1:
                for sentence in self.sentences:
                    prompt = self._draw(random, sentence, int(start))
                    if prompt.text not in seen:
                        seen.add(prompt.text)
                        yield prompt

    def _draw(self, random: Any, sentence: int, start: int) -> CountingPrompt:
        fillers = self.names if sentence == 0 else self.things
        while True:
            chosen = tuple(fillers[i] for i in random.choice(len(fillers), SHOWN + 1, replace=False))
            if self.half in (None, half_of(chosen[0], chosen[1])):
                break
        while True:
            others = tuple(int(number) for number in random.integers(1, self.HIGHEST + 1, SHOWN))
            if others[-1] - 1 != others[-2]:
                break
        shown = tuple(range(start, start + SHOWN))
        return CountingPrompt(sentence, chosen, shown, (str(start + SHOWN), str(start + SHOWN - 1)), others)
