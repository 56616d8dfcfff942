"""Three-word acronyms: "The Wound Kettle Mixture (WK", whose next letter is M.

Source: García-Carrasco et al. 2024, section 3, and the authors' code (`dataset.py`, `patching_experiments.py`). Each word is
two tokens for GPT-2's tokenizer: its capital letter with the space before it, and the rest; the first two letters of the
acronym are a token each. All prompts are then laid out alike: BOS, The, C1, T1, C2, T2, C3, T3, (, A1, A2. The authors draw
theirs from a list of words that is not at hand, and keep those that the model completes rightly; these words are ours, and no
prompt is left out for what a model says. The corrupted prompt has another third word.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from circuit_claims.prompts.batch import TokenizationError, bare_token
from circuit_claims.prompts.source import Corruptions, number_of
from circuit_claims.prompts.word_tokens import offsets_inside
from circuit_claims.untested import Untested

#: Common words whose capital letter GPT-2's tokenizer keeps apart from the rest, which is one token.
WORDS: tuple[str, ...] = tuple(
    """
    Aims Batch Bias Bounds Bother Bunch Burden Bumps Bodies Bamboo Crop Cursor Coding Clicks Cores Cactus Dummy Density
    Diameter Dots Ditch Ease Ecosystem Eject Fraction Fixture Fidelity Filler Folds Fiddle Gains Gist Gutter Hints Halt Holes
    Hacks Icons Jitter Jumps Jars Jigsaw Jockey Kernels Kilo Kite Kettle Kitten Layers Locks Lanes Mixture Mutation Masks
    Migrant Mantle Nodes Nonsense Noodle Omission Padding Pairs Pixels Pools Pivot Piles Puddle Rows Routine Rotation Ranks
    Rascal Sizes Siblings Sorting Sink Sieve Tuple Tensor Tasks Ticks Tails Tabs Tiles Vars Vase Widget Wager Wound Yarn Yield
    Yacht Zeros Zones Zipper Zebra Zither Zodiac
    """.split()
)
LETTERS = string.ascii_uppercase
#: The tokens of a prompt by role, after BOS; the last is END.
LAYOUT = ("The", "C1", "T1", "C2", "T2", "C3", "T3", "(", "A1", "END")
FEWEST_WORDS = 20


@dataclass(frozen=True)
class AcronymPrompt:
    """Three words and the first two letters of their acronym.

    third: the third word of the clean prompt, by whose letter a corrupted prompt is judged too; fresh: the one that it gets.
    """

    words: tuple[str, str, str]
    third: str
    fresh: str

    @property
    def template(self) -> str:
        """What prompts resemble each other by: the third word, whose letter is asked for."""
        return self.third

    @property
    def answers(self) -> tuple[str, str]:
        """The third letter, and that of the corrupted prompt."""
        return self.third[0], self.fresh[0]

    @cached_property
    def _written(self) -> tuple[str, tuple[tuple[str, int, int], ...]]:
        text, spans = "The", [("The", 0, 3)]
        for number, word in enumerate(self.words, start=1):
            begin = len(text) + 1
            spans += [(f"C{number}", begin, begin + 1), (f"T{number}", begin + 1, begin + len(word))]
            text += f" {word}"
        begin = len(text) + 1
        spans += [("(", begin, begin + 1), ("A1", begin + 1, begin + 2)]
        return f"{text} ({self.words[0][0]}{self.words[1][0]}", tuple(spans)

    @property
    def text(self) -> str:
        """The whole prompt, without a BOS token."""
        return self._written[0]

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """Where in `text` the letters and the rests of the words stand: (role, first character, one past the last)."""
        return self._written[1]

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "AcronymPrompt":
        """The prompt with another third word, to be judged by the old one's letter.

        Raises ValueError for any other change.
        """
        if change != "third word":
            raise ValueError(f"unknown change {change!r}: the one there is is 'third word'")
        return replace(self, words=(*self.words[:2], self.fresh))


@dataclass(frozen=True)
class Acronyms:
    """Three words of different letters, whose first two letters are a token each where they stand."""

    words: tuple[str, ...]
    pairs: tuple[str, ...]

    corruptions: ClassVar[Corruptions] = Corruptions.only("third word")
    roles: ClassVar[tuple[str, ...]] = LAYOUT

    def __str__(self) -> str:
        return f"acronyms of three words, {len(self.words)} words"

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompts these are, in words, `under` a change."""
        return f"{self}{under}"

    def stream(self, seed: int) -> Iterator[AcronymPrompt]:
        """Prompts by seed, none twice: a pair of first letters, then words, each uniformly.

        Raises ValueError where there is no further prompt.
        """
        random = np.random.default_rng([seed, number_of(repr(self))])
        by_letter = {letter: [word for word in self.words if word[0] == letter] for letter in LETTERS}
        seen: set[tuple[str, str, str]] = set()
        misses = 0
        while misses < 1000:
            pair = self.pairs[random.integers(len(self.pairs))]
            first, second = (by_letter[letter][random.integers(len(by_letter[letter]))] for letter in pair)
            others = [word for word in self.words if word[0] not in pair]
            third = others[random.integers(len(others))]
            others = [word for word in others if word[0] != third[0]]
            if (first, second, third) in seen:
                misses += 1
                continue
            misses = 0
            seen.add((first, second, third))
            yield AcronymPrompt((first, second, third), third, others[random.integers(len(others))])
        raise ValueError(f"the population ({self}) holds no more than about {len(seen)} prompts: ask for fewer")


def acronyms_for(tokenizer: Any) -> Acronyms:
    """The acronyms that a tokenizer can carry.

    Raises Untested where it has no letters as tokens, or splits too few of the words after their capital letter.
    """
    try:
        for letter in LETTERS:
            bare_token(tokenizer, letter)
    except TokenizationError as error:
        raise Untested(f"acronyms are spelt letter by letter, and {error}: take a subject with GPT-2's tokenizer") from error
    if tokenizer.bos_token_id is None:
        raise Untested("this tokenizer has no BOS token, and acronyms were published with one before them")
    words = tuple(word for word in WORDS if _pieces(tokenizer, f" {word}") == [f" {word[0]}", word[1:]])
    first = sorted({word[0] for word in words})
    pairs = tuple(a + b for a in first for b in first if a != b and _pieces(tokenizer, f" ({a}{b}") == [" (", a, b])
    if len(words) < FEWEST_WORDS or not pairs:
        raise Untested(
            f"the subject's tokenizer splits only {len(words)} words after their capital letter, and keeps {len(pairs)} pairs "
            "of letters apart: take a subject with GPT-2's tokenizer"
        )
    return Acronyms(words, pairs)


def _pieces(tokenizer: Any, text: str) -> list[str]:
    """The text of each token inside a sentence."""
    ends = [0, *(end for _, end in offsets_inside(tokenizer, text))]
    return [text[begin:end] for begin, end in pairwise(ends)]
