"""The tokenizer alone: whether the suite's prompts are to it what the suite takes them for.

Names that are one token each, pairs of prompts of one length, roles at one place in both: everything that patches position by
position rests on these. They are counted over all frames (template and order) with every name in every role, which is the
whole of what can go wrong with single-token names; so the counts are exact.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from circuit_claims.measure.samples import Samples
from circuit_claims.prompts.ioi import Population, Prompt
from circuit_claims.prompts.templates import EXTRA_SENTENCES
from circuit_claims.prompts.word_tokens import all_inside
from circuit_claims.prompts.words import OBJECTS, PLACES


@dataclass(frozen=True)
class Tokenized:
    """A prompt's length in tokens, and the token at each role; None where a name is not one token there."""

    length: int
    roles: Mapping[str, int | None]


@dataclass(frozen=True, repr=False)
class Tokens:
    """One tokenizer, the names that prompts are filled with, and what rows say of it."""

    tokenizer: Any
    names: tuple[str, ...]
    facts: Mapping[str, Any]
    store: dict[str, list[Tokenized]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Short, as for tasks."""
        return f"the tokenizer of {self.facts.get('subject')}"

    def single(self, words: Sequence[str], what: str) -> Samples:
        """For each word 1 where it is one token, not the unknown one, with a space before it; `what` says which words."""
        encoded = all_inside(self.tokenizer, [" " + word for word in words])
        unknown = self.tokenizer.unk_token_id
        known = self.tokenizer.get_vocab()
        hits = [len(ids) == 1 and (ids[0] != unknown or word in known) for word, ids in zip(words, encoded, strict=True)]
        return self._counted(hits, f"share of {what} that are one token", words)

    def distinct(self, words: Sequence[str]) -> Samples:
        """For each word 1 where no other of them has its tokens."""
        encoded = all_inside(self.tokenizer, [" " + word for word in words])
        times = Counter(map(tuple, encoded))
        return self._counted([times[tuple(ids)] == 1 for ids in encoded], "share of names with tokens of their own", words)

    def equal_lengths(self, change: str) -> Samples:
        """For each prompt 1 where it has as many tokens with this change as without."""
        quantity = f"share of prompts that are as long with the change {change!r} as without"
        return self._pairs(change, quantity, lambda clean, changed: clean.length == changed.length)

    def equal_roles(self, change: str) -> Samples:
        """For each prompt 1 where every name is one token and stands at the same position with this change as without."""
        quantity = f"share of prompts with all roles in place after the change {change!r}"
        return self._pairs(
            change, quantity, lambda clean, changed: None not in clean.roles.values() and clean.roles == changed.roles
        )

    def aligned(self) -> Samples:
        """For each prompt 1 where its length and its roles' positions are those of the first prompt of its frame."""
        first: dict[tuple[int, str], Tokenized] = {}
        hits = []
        for prompt, found in zip(self.prompts(), self._tokenized(""), strict=True):
            hits.append(found == first.setdefault((prompt.template, prompt.order), found) and None not in found.roles.values())
        return self._counted(hits, "share of prompts that are laid out as all of their template and order", self.prompts())

    def orders_aligned(self) -> Samples:
        """For each prompt 1 where its length and S2's position are those of its template's first prompt, in either order."""
        first: dict[int, tuple[int, int | None]] = {}
        hits = []
        for prompt, found in zip(self.prompts(), self._tokenized(""), strict=True):
            layout = found.length, found.roles["S2"]
            hits.append(layout == first.setdefault(prompt.template, layout) and layout[1] is not None)
        return self._counted(hits, "share of prompts that are as long as all of their template", self.prompts())

    def prompts(self) -> list[Prompt]:
        """Every frame with every name as IO, as S, and among the fresh names, and with every place and object."""
        names, drawn = self.names, []
        for frame, (template, order) in enumerate(Population().frames()):
            for i in range(len(names)):
                io, s, *fresh = (names[(i + step) % len(names)] for step in range(5))
                drawn.append(
                    Prompt(
                        answers=(io, s),
                        cast=(("IO", io), ("S1", s), ("S2", s)),
                        template=template,
                        order=order,
                        place=PLACES[(i + frame) % len(PLACES)],
                        object=OBJECTS[i // len(PLACES) % len(OBJECTS)],
                        fresh=(fresh[0], fresh[1], fresh[2]),
                        sentence=i % len(EXTRA_SENTENCES),
                    )
                )
        return drawn

    def _pairs(self, change: str, quantity: str, same: Callable[[Tokenized, Tokenized], bool]) -> Samples:
        pairs = zip(self._tokenized(""), self._tokenized(change), strict=True)
        return self._counted([same(clean, changed) for clean, changed in pairs], quantity, self.prompts())

    def _tokenized(self, change: str) -> list[Tokenized]:
        if change not in self.store:
            prompts = [prompt.changed(change) if change else prompt for prompt in self.prompts()]
            encoded = self.tokenizer([str(p) for p in prompts], add_special_tokens=False, return_offsets_mapping=True)
            self.store[change] = [_tokenized(*each) for each in zip(prompts, encoded["offset_mapping"], strict=True)]
        return self.store[change]

    def _counted(self, hits: Sequence[bool], quantity: str, prompts: Sequence[Any]) -> Samples:
        values = np.array(hits, dtype=float)
        return Samples(values, quantity, "rate", range(len(values)), prompts=prompts, exact=True, facts=self.facts)


def _tokenized(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> Tokenized:
    roles = {}
    for role, begin, end in prompt.spans:
        covering = [token for token, (a, b) in enumerate(offsets) if a < end and b > begin]
        roles[role] = covering[0] if len(covering) == 1 else None
    return Tokenized(len(offsets), roles)
