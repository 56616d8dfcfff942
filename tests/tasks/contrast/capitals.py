"""Pairs of prompts that the embedded model can answer: capitals of countries."""

from typing import Any

from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.mini_words import CAPITALS
from circuit_claims.tasks.contrast.task import ContrastTask

#: Another phrasing has other positions, and more tokens.
FORMS = ("The capital of [country: {}] is", "The capital city of [country: {}] is called")


def capitals(form: str = FORMS[0], corrupted: str | None = None) -> list[dict[str, Any]]:
    """A pair for each country, with the next country in the corrupted text; the two texts may be of different forms."""
    around = list(CAPITALS.items())
    return [
        {"clean": form.format(country), "corrupted": (corrupted or form).format(other), "answer": city, "foil": foil}
        for (country, city), (other, foil) in zip(around, around[1:] + around[:1], strict=True)
    ]


def task(subject: Any, pairs: Any = None, *, bos: bool = False, **options: Any) -> ContrastTask:
    """The task of these pairs, or of capitals."""
    settings = {name: options.pop(name) for name in ("metric", "seed", "chunk") if name in options}
    return ContrastTask.of(subject, Contrasts.of(pairs or capitals(), **options), prepend_bos=bos, **settings)


_SPOKEN_OF = (
    "hot, the freezing cold",
    "big, little",
    "an extraordinarily tall, short",
    "old, unbelievably youthful",
    "rich, poor",
    "dark, light",
    "very bright, gloomy",
    "quick, slow",
    "thick, a transparent and thin",
)
#: Pairs for GPT-2's tokenizer, some of which differ in length, with marks of several tokens and lists of answers.
UNLIKE: list[dict[str, Any]] = [
    {
        "clean": f"They say that [word: {one}] is the opposite of",
        "corrupted": f"They say that [word: {other}] is the opposite of",
        "answer": ["cold", "small"] if i % 3 else "blue",
        "foil": ["warm", "large", "green"] if i % 2 else "red",
    }
    for i, (one, other) in enumerate(pair.split(", ") for pair in _SPOKEN_OF)
]
