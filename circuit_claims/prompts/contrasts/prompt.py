"""One pair of prompts with the answers that tell them apart."""

from dataclasses import dataclass, replace
from typing import Any

from circuit_claims.prompts.contrasts.marks import Mark

#: The one change of a pair's clean text: the other text in its place.
CORRUPTED = "corrupted"

#: An answer as it was given: a text, or the number of a token.
Answer = str | int


@dataclass(frozen=True)
class ContrastPrompt:
    """A clean text and its corrupted one, with what answers the clean one and what does not.

    text: the text that the model reads, without a BOS token; corrupted_text: what `changed("corrupted")` puts in its place.
    right, wrong: the answers and the foils, at least one of each, texts or numbers of tokens. marks, corrupted_marks: what is
    marked in the two texts, the same names in both. observation: what counts as one observation. row: where the pair stood in
    what it was read from, from 1. The answers are those of the clean text in the corrupted prompt too.
    """

    text: str
    corrupted_text: str
    right: tuple[Answer, ...]
    wrong: tuple[Answer, ...]
    observation: str
    marks: tuple[Mark, ...] = ()
    corrupted_marks: tuple[Mark, ...] = ()
    row: int = 0

    @property
    def answers(self) -> tuple[Any, Any]:
        """The first answer and the first foil; see `right` and `wrong` for all of them."""
        return self.right[0], self.wrong[0]

    @property
    def cluster(self) -> str:
        """What counts as one observation: prompts of one cluster depend on each other."""
        return self.observation

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """Roles of one token each: none, since what is marked may be several (see `phrases`)."""
        return ()

    @property
    def phrases(self) -> tuple[tuple[str, int, int], ...]:
        """Where in `text` the marks stand: (name, first character, one past the last)."""
        return tuple(self.marks)

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "ContrastPrompt":
        """The corrupted prompt ("corrupted"); the answers stay those of the clean one.

        Raises ValueError for any other change.
        """
        if change != CORRUPTED:
            raise ValueError(f"unknown change {change!r}: the one there is of a pair is {CORRUPTED!r}")
        return replace(self, text=self.corrupted_text, marks=self.corrupted_marks)
