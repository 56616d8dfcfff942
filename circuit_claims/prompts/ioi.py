"""p_IOI and its corruptions: prompts that know their roles, drawn by seed and never twice.

Sources: Wang et al. 2022, section 2 and appendix E (p_IOI, p_ABC), section 4.4 (extra sentences); the name-swap corruption of
the TransformerLens and ARENA notebooks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np

from circuit_claims.prompts.roles import SWEPT_ROLES
from circuit_claims.prompts.source import Corruptions, Half, half_of_text, number_of
from circuit_claims.prompts.templates import EXTRA_SENTENCES, NEUTRAL_PREFIXES, ORDERS, TEMPLATES, frame_text
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES

#: The roles of an IOI prompt: the indirect object, the subject's first mention, the token after it, its second mention, the
#: last token.
ROLES: tuple[str, ...] = ("IO", "S1", "S1+1", "S2", "END")

#: What can be done to a prompt. The corruptions keep every token but the names (they pair with the clean prompt position by
#: position); the additions add a sentence.
CORRUPTIONS: tuple[str, ...] = ("name swap", "ABC", "S2 to IO", "random names", "S1-IO flip", "random names, S1-IO flip")
ADDITIONS: tuple[str, ...] = ("extra S", "extra IO", "neutral prefix", "distractor name")


@dataclass(frozen=True)
class Prompt:
    """One IOI prompt.

    answers: the two names whose logits are compared, IO and S, of the clean prompt: a corrupted prompt keeps its labels.
    cast: who stands at IO, S1, S2 and, with an extra sentence, X, with a distractor before, D.
    template, order, prefix, extra, sentence: which frame (see `Population`); `sentence` numbers the extra sentence.
    fresh: three further names, for the corruptions that need them.
    """

    answers: tuple[str, str]
    cast: tuple[tuple[str, str], ...]
    template: int
    order: str
    place: str
    object: str
    fresh: tuple[str, str, str]
    prefix: int = 0
    extra: str = ""
    sentence: int = 0

    @cached_property
    def _written(self) -> tuple[str, tuple[tuple[str, int, int], ...]]:
        prefix = NEUTRAL_PREFIXES[self.prefix - 1] if self.prefix else ""
        if "D" in dict(self.cast):
            prefix += EXTRA_SENTENCES[self.sentence].replace("{X}", "{D}").lstrip() + " "
        extra = EXTRA_SENTENCES[self.sentence] if self.extra else ""
        form = frame_text(self.template, self.order, prefix=prefix, extra=extra)
        return _fill(form, dict(self.cast), self.place, self.object)

    @property
    def text(self) -> str:
        """The whole prompt, without a BOS token."""
        return self._written[0]

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """Where in `text` each name stands that is one token: (role, first character, one past the last)."""
        return tuple(span for span in self._written[1] if span[0] != "D")

    @property
    def phrases(self) -> tuple[tuple[str, int, int], ...]:
        """Where a distractor's name stands, likewise: it begins the text, where a tokenizer may make several tokens of it."""
        return tuple(("distractor", begin, end) for role, begin, end in self._written[1] if role == "D")

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "Prompt":
        """This prompt with one change; `answers` stay the clean prompt's.

        "name swap" exchanges IO and S everywhere; "ABC" puts three different fresh names in place of IO, S1 and S2 (p_ABC);
        "S2 to IO" makes IO the second clause's subject; "random names" keeps the structure with two fresh names; "S1-IO flip"
        exchanges the first two names alone, with the prompt's own names or with two fresh ones. "extra S" and
        "extra IO" insert a sentence about S or IO between the two sentences; "neutral prefix" sets a longer text before, and
        "distractor name" a sentence about somebody else.

        Raises ValueError for an unknown change, and for an extra sentence in a template of one sentence.
        """
        io, s = self.answers
        a, b, c = self.fresh
        casts = {
            "name swap": {"IO": s, "S1": io, "S2": io},
            "ABC": {"IO": a, "S1": b, "S2": c},
            "S2 to IO": {"IO": io, "S1": s, "S2": io},
            "random names": {"IO": a, "S1": b, "S2": b},
            "S1-IO flip": {"IO": s, "S1": io, "S2": s},
            "random names, S1-IO flip": {"IO": b, "S1": a, "S2": b},
        }
        if change in casts:
            cast = casts[change] | {role: name for role, name in self.cast if role == "D"}
            if self.extra:
                cast["X"] = cast["IO"] if self.extra == "IO" else cast["S1"]
            return replace(self, cast=tuple(cast.items()))
        if change == "neutral prefix":
            return replace(self, prefix=len(NEUTRAL_PREFIXES))
        if change == "distractor name":
            return replace(self, cast=(*self.cast, ("D", a)))
        if change in ("extra S", "extra IO"):
            who = change.removeprefix("extra ")
            return replace(self, extra=who, cast=(*self.cast, ("X", io if who == "IO" else s)))
        raise ValueError(f"unknown change {change!r}: use one of {', '.join(CORRUPTIONS + ADDITIONS)}")


@dataclass(frozen=True)
class Population:
    """Which IOI prompts are meant.

    templates: numbers of templates, from 0.
    orders: ABBA, BABA, or both ("mixed").
    prefix: 0 for none, k for the k-th neutral prefix.
    names: the names to draw from.
    half: which half of the unordered name pairs.
    """

    templates: tuple[int, ...] = tuple(range(len(TEMPLATES)))
    orders: tuple[str, ...] = ORDERS
    prefix: int = 0
    names: tuple[str, ...] = NAMES
    half: Half | None = "verdict"

    corruptions: ClassVar[Corruptions] = Corruptions(CORRUPTIONS, denoising="name swap", noising="ABC", attribution="S2 to IO")
    roles: ClassVar[tuple[str, ...]] = SWEPT_ROLES

    def __str__(self) -> str:
        numbers = (
            "all templates" if len(self.templates) == len(TEMPLATES) else f"templates {', '.join(map(str, self.templates))}"
        )
        return f"{numbers}, {' and '.join(self.orders)}" + (f", neutral prefix {self.prefix}" if self.prefix else "")

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompts these are, in words, `under` a change; the names, where they are not the usual ones."""
        return f"{self}{under}" + ("" if self.names == tuple(usual_names) else f"; names {', '.join(self.names)}")

    def frames(self) -> list[tuple[int, str]]:
        """All (template, order) pairs of the population."""
        return [(template, order) for template in self.templates for order in self.orders]

    def of_the_form_of(self, prompt: Prompt) -> "Population":
        """The prompts of a prompt's template, order and prefix, in both halves: what a mean ablation averages over."""
        return replace(self, templates=(prompt.template,), orders=(prompt.order,), prefix=prompt.prefix, half=None)

    def stream(self, seed: int) -> Iterator[Prompt]:
        """Prompts without end, by seed, none twice; frames take turns, so that every template is equally represented.

        Raises ValueError where the names give no pair, or the population holds no further prompt.
        """
        # Each stream has its own generator: whoever reseeds Python's or NumPy's global one cannot make prompts alike.
        random = np.random.default_rng([seed, number_of(repr(self))])
        pairs = _pairs(self.names, self.half)
        if not pairs or len(self.names) < 5:
            raise ValueError(f"{len(self.names)} names are too few to draw IOI prompts from: give at least 8")
        seen: set[str] = set()
        misses = 0
        while misses < 1000:
            for template, order in random.permutation(np.array(self.frames(), dtype=object)):
                prompt = self._draw(random, int(template), str(order), pairs)
                if prompt.text in seen:
                    misses += 1
                    continue
                misses = 0
                seen.add(prompt.text)
                yield prompt
        raise ValueError(f"the population ({self}) holds no more than about {len(seen)} prompts: ask for fewer")

    def sample(self, n: int, seed: int) -> list[Prompt]:
        """The first n prompts of the stream."""
        stream = self.stream(seed)
        return [next(stream) for _ in range(n)]

    def _draw(self, random: np.random.Generator, template: int, order: str, pairs: Sequence[tuple[str, str]]) -> Prompt:
        io, s = pairs[int(random.integers(len(pairs)))]
        others = [name for name in self.names if name not in (io, s)]
        fresh = tuple(others[i] for i in random.choice(len(others), 3, replace=False))
        place, thing = PLACES[random.integers(len(PLACES))], OBJECTS[random.integers(len(OBJECTS))]
        return Prompt(
            answers=(io, s),
            cast=(("IO", io), ("S1", s), ("S2", s)),
            template=template,
            order=order,
            place=place,
            object=thing,
            fresh=fresh,
            prefix=self.prefix,
            sentence=int(random.integers(len(EXTRA_SENTENCES))),
        )


@lru_cache(maxsize=32)
def _pairs(names: tuple[str, ...], half: Half | None) -> tuple[tuple[str, str], ...]:
    """All ordered pairs of different names in one half, or in both: thousands, the same for every frame of a population."""
    return tuple((a, b) for a in names for b in names if a != b and half in (None, half_of(a, b)))


def half_of(a: str, b: str) -> Half:
    """Which half an unordered pair of names belongs to: the same on every machine and in every run."""
    return half_of_text("|".join(sorted((a, b))))


def _fill(form: str, cast: dict[str, str], place: str, thing: str) -> tuple[str, tuple[tuple[str, int, int], ...]]:
    """Fill the slots of a frame; the names' places are noted as they are written, so that no name is ever searched for."""
    text, spans = "", []
    for i, piece in enumerate(form.replace("}", "{").split("{")):
        if i % 2 == 0:
            text += piece
            continue
        filler = {"PLACE": place, "OBJECT": thing}.get(piece) or cast[piece]
        if piece in cast:
            spans.append((piece, len(text), len(text) + len(filler)))
        text += filler
    return text, tuple(spans)
