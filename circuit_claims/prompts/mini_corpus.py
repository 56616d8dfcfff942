"""The mini model's training text: documents drawn at random from the forms of `vocabulary`, packed into rows of tokens.

The text is a distribution, not a rule: an IOI sentence goes on with the indirect object most of the time, with a
determiner some of the time, and with the subject rarely (`IOI_SHARES`), so that a calibrated model has finite logit
differences.

Held out of every IOI sentence, by rules that need no random state: names (`HELD_OUT_NAMES`), unordered pairs of names
(`pair_held_out`), combinations of template, place and object (`combination_held_out`), and of fact and phrasing
(`fact_held_out`). No IOI document has a sentence about S or IO besides the template's own.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from circuit_claims.prompts import mini_words as words
from circuit_claims.prompts.ioi import half_of
from circuit_claims.prompts.source import Half
from circuit_claims.prompts.templates import ORDERS, TEMPLATES, TWO_SENTENCE_TEMPLATES, frame_text
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES

# A document is a list of pieces: a text, and the loss weight of its tokens.
Document = list[tuple[str, float]]

ROW_TOKENS = 96
HELD_OUT_SHARE = 0.2
HELD_OUT_PAPER_NAMES = 15
HELD_OUT_MORE_NAMES = 25

# What follows an IOI prompt. ln(IO / S) is the logit difference of a calibrated model. The rest is a determiner's.
IOI_SHARES: dict[str, float] = {"io": 0.72, "s": 0.013, "bystander": 0.025}

# Loss weights: the tokens that a document is about count more; a random sequence's first half cannot be foreseen at
# all.
ANSWER_WEIGHT = 4.0
REPEAT_WEIGHT = 1.0
NOISE_WEIGHT = 0.0

# Share of documents of each kind, by stage: a stage holds until the step of training that is named with it.
#
# The first stage has more copying: without it the loss rests for many steps on a plateau where nothing is copied. The third
# and fourth have no plain IOI sentence. Given early, these are solved by adding up the names and taking the giver's away,
# and nothing then asks for more; the kinds "described", "part described" and "former" ask the model to attend to the
# receiver, and the last stage's IOI sentences find a model that can (`_ioi_like`).
EARLY_MIX: dict[str, float] = {
    "ioi": 0.22,
    "described": 0.22,
    "former": 0.10,
    "abc": 0.06,
    "repeat": 0.14,
    "facts": 0.10,
    "years": 0.10,
    "people": 0.06,
}
STAGES: tuple[tuple[float, dict[str, float]], ...] = (
    (
        600,
        {
            "ioi": 0.08,
            "described": 0.10,
            "former": 0.05,
            "abc": 0.02,
            "repeat": 0.43,
            "facts": 0.08,
            "years": 0.06,
            "people": 0.18,
        },
    ),
    (750, EARLY_MIX),
    (
        1500,
        {
            "described": 0.38,
            "former": 0.12,
            "abc": 0.05,
            "repeat": 0.14,
            "facts": 0.10,
            "years": 0.14,
            "people": 0.07,
        },
    ),
    (
        2000,
        {
            "part described": 0.42,
            "former": 0.10,
            "abc": 0.04,
            "repeat": 0.14,
            "facts": 0.10,
            "years": 0.14,
            "people": 0.06,
        },
    ),
    (
        3000,
        {
            "ioi": 0.25,
            "part described": 0.17,
            "former": 0.08,
            "abc": 0.06,
            "repeat": 0.14,
            "facts": 0.10,
            "years": 0.14,
            "people": 0.06,
        },
    ),
    # Names that never stand in an IOI sentence were confused now and then (2 % of prompts): lists of names, said twice, and
    # more plain sentences about people teach every name to be copied.
    (
        float("inf"),
        {
            "ioi": 0.20,
            "part described": 0.12,
            "former": 0.07,
            "abc": 0.06,
            "repeat": 0.08,
            "names": 0.18,
            "facts": 0.07,
            "years": 0.10,
            "people": 0.12,
        },
    ),
)


def _fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone: the same on every machine and in every process."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _held_out_names() -> frozenset[str]:
    """The names with the lowest fractions: 15 of the paper's, 25 of the others."""

    def lowest(names: tuple[str, ...], count: int) -> list[str]:
        return sorted(names, key=lambda name: _fraction("name", name))[:count]

    more = tuple(name for name in words.ALL_NAMES if name not in NAMES)
    return frozenset(lowest(NAMES, HELD_OUT_PAPER_NAMES) + lowest(more, HELD_OUT_MORE_NAMES))


HELD_OUT_NAMES: frozenset[str] = _held_out_names()
ROLE_NAMES: tuple[str, ...] = tuple(name for name in words.ALL_NAMES if name not in HELD_OUT_NAMES)


def pair_held_out(first: str, second: str) -> bool:
    """Whether these two names, in either order, never share an IOI sentence."""
    return _fraction("pair", *sorted((first, second))) < HELD_OUT_SHARE


def combination_held_out(template: int, place: str, obj: str) -> bool:
    """Whether this template never has this place and object. A template without both slots has nothing to hold out."""
    text = TEMPLATES[template]
    if "{PLACE}" not in text or "{OBJECT}" not in text:
        return False
    return _fraction("combination", template, place, obj) < HELD_OUT_SHARE


def fact_held_out(kind: str, subject: str, form: int) -> bool:
    """Whether this fact never has this phrasing: one phrasing of each fact. `kind` is "capital" or "material"."""
    forms = words.CAPITAL_FORMS if kind == "capital" else words.MATERIAL_FORMS
    return int(_fraction("fact", kind, subject) * len(forms)) == form


def fact_text(kind: str, subject: str, form: int) -> tuple[str, str]:
    """The fact in this phrasing, as the prompt and its answer."""
    if kind == "capital":
        prompt, answer = words.CAPITAL_FORMS[form]
        slots = {"COUNTRY": subject, "CAPITAL": words.CAPITALS[subject]}
    else:
        prompt, answer = words.MATERIAL_FORMS[form]
        slots = words.thing_slots(subject) | {"MATERIAL": words.MATERIALS[subject]}
    return prompt.format(**slots), answer.format(**slots)


def years_text(span: str, century: int, start: int) -> str:
    """A year range up to the century of its second year."""
    return words.SPAN_FORM.format(SPAN=span, START=f"{century}{start:02d}", CENTURY=century)


@dataclass(frozen=True)
class Frame:
    """What an IOI-like sentence is made of, before its names."""

    template: int
    order: str
    place: str
    obj: str


def _draw_frame(rng: random.Random) -> Frame:
    while True:
        frame = Frame(rng.randrange(len(TEMPLATES)), rng.choice(ORDERS), rng.choice(PLACES), rng.choice(OBJECTS))
        if not combination_held_out(frame.template, frame.place, frame.obj):
            return frame


def _draw_role_names(rng: random.Random, count: int, half: Half | None) -> list[str]:
    """Names for an IOI-like sentence: none held out, no held-out pair among them, and all pairs in `half`, if there is one."""
    while True:
        names = rng.sample(ROLE_NAMES, count)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
        if not any(pair_held_out(*pair) for pair in pairs) and (half is None or all(half_of(*pair) == half for pair in pairs)):
            return names


def _fill(rng: random.Random, form: str, **names: str) -> str:
    return form.format(**names, PLACE=rng.choice(PLACES), OBJECT=rng.choice(OBJECTS))


def _bystander_sentences(rng: random.Random, taken: list[str], count: int) -> tuple[list[str], list[str]]:
    """`count` sentences about people other than `taken`, now and then about the same one twice; also who they are."""
    sentences, people = [], []
    free = [name for name in rng.sample(words.ALL_NAMES, 2 * count + len(taken)) if name not in taken]
    for _ in range(count):
        first = rng.choice(people) if people and rng.random() < 0.25 else free.pop()
        if rng.random() < 0.65:
            sentences.append(_fill(rng, rng.choice(words.ONE_PERSON), X=first))
            people.append(first)
        else:
            second = free.pop()
            sentences.append(_fill(rng, rng.choice(words.TWO_PEOPLE), X=first, Y=second))
            people += [first, second]
    return sentences, people


def _after_to(rng: random.Random, candidates: list[str], subject: str, bystanders: list[str]) -> str:
    """What an IOI-like prompt goes on with: one of the candidates, mostly (`IOI_SHARES`)."""
    draw = rng.random()
    if draw < IOI_SHARES["io"]:
        return rng.choice(candidates)
    draw -= IOI_SHARES["io"]
    if draw < IOI_SHARES["s"]:
        return subject
    if bystanders and draw - IOI_SHARES["s"] < IOI_SHARES["bystander"]:
        return rng.choice(bystanders)
    return f"{rng.choice(words.DETERMINERS)} {rng.choice(words.PEOPLE_NOUNS)}"


def _ioi_like(rng: random.Random, kind: str, half: Half | None) -> Document:
    """An IOI document: bystanders, the sentence, what follows it.

    `kind` is one of:
    - "ioi";
    - "abc": a third person gives, so that either of the first two may follow;
    - "former": "the former" or "the latter" gives, so that place in the sentence, not a repeated name, tells who receives;
    - "described": both people are first named with an adjective, and after "to" comes the receiver's adjective. This asks
      for something of the receiver that is not the receiver's name. It cannot be had by adding up the names in the text
      and taking the giver's away, which is how a model trained without it does the task: it has to attend to the receiver;
    - "part described": the same, where most often only one of the two has an adjective.
    """
    names = _draw_role_names(rng, 3 if kind == "abc" else 2, half)
    io, subject = names[:2]
    frame = _draw_frame(rng)
    sentences, bystanders = _bystander_sentences(rng, names, rng.choices((0, 1, 2, 3), (0.30, 0.30, 0.25, 0.15))[0])
    if rng.random() < 0.25:
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(words.NEUTRAL))
    extra = ""
    if frame.template in TWO_SENTENCE_TEMPLATES and rng.random() < 0.25:
        third = rng.choice([name for name in rng.sample(words.ALL_NAMES, 4) if name not in names])
        extra = " " + _fill(rng, rng.choice(words.ONE_PERSON), X=third)
        bystanders.append(third)
    text = frame_text(frame.template, frame.order, extra=extra)
    giver, candidates = subject, [io]
    if kind == "abc":
        giver, candidates = names[2], [io, subject]
    elif kind == "former":
        subject_first = text.index("{S1}") < text.index("{IO}")
        giver = ("T" if ". {S2}" in text else "t") + ("he former" if subject_first else "he latter")
    first_named, receiver = subject, io
    if kind in ("described", "part described"):
        both = kind == "described" or rng.random() < 0.3
        subject_alone = not both and rng.random() < 0.5
        if both or subject_alone:
            first_named = f"{rng.choice(words.ADJECTIVES)} {subject}"
        if not subject_alone:
            receiver = f"{rng.choice(words.ADJECTIVES)} {io}"
        candidates = [receiver]
    prompt = text.format(S1=first_named, IO=receiver, S2=giver, PLACE=frame.place, OBJECT=frame.obj)
    last = names[2] if kind == "abc" else subject
    answer = _after_to(rng, candidates, last, bystanders)
    first, _, rest = answer.partition(" ")
    return [
        (" ".join([*sentences, prompt]), 1.0),
        (first, ANSWER_WEIGHT),
        (rest, ANSWER_WEIGHT / 2 if rest == io else 1.0),
        (".", 1.0),
    ]


def _repeat(rng: random.Random) -> Document:
    """A random sequence, twice; a short one up to five times. A third of the sequences are rich in names."""
    length = rng.randint(5, 30)
    pool = RANDOM_WORDS if rng.random() < 0.7 else RANDOM_WORDS + words.ALL_NAMES * 2
    sequence = " ".join(dict.fromkeys(rng.choices(pool, k=length)))
    times = rng.randint(1, 4) if length <= 12 else 1
    # The repeat's first word cannot be foreseen, and weighs as little as the sequence itself.
    document: Document = [(sequence, NOISE_WEIGHT)]
    for _ in range(times):
        head, _, rest = sequence.partition(" ")
        document += [(head, NOISE_WEIGHT), (rest, REPEAT_WEIGHT)]
    return document


def _names(rng: random.Random) -> Document:
    """A list of names, held-out ones among them, said twice or three times."""
    names = rng.sample(words.ALL_NAMES, rng.randint(3, 16))
    document: Document = [(" ".join(names), NOISE_WEIGHT)]
    for _ in range(rng.randint(1, 2)):
        document += [(names[0], NOISE_WEIGHT), (" ".join(names[1:]), REPEAT_WEIGHT)]
    return document


def _facts(rng: random.Random) -> Document:
    """Two to four facts, each in a phrasing that is not held out."""
    document: Document = []
    for _ in range(rng.randint(2, 4)):
        kind = rng.choice(("capital", "material"))
        subject = rng.choice(tuple(words.CAPITALS if kind == "capital" else words.MATERIALS))
        forms = range(len(words.CAPITAL_FORMS if kind == "capital" else words.MATERIAL_FORMS))
        form = rng.choice([form for form in forms if not fact_held_out(kind, subject, form)])
        prompt, answer = fact_text(kind, subject, form)
        document += [(prompt, 1.0), (answer, ANSWER_WEIGHT / 2), (".", 1.0)]
    return document


def _years(rng: random.Random) -> Document:
    """A year range whose second year is later, uniformly, within the century."""
    start = rng.randint(1, 98)
    prompt = years_text(rng.choice(words.SPANS), rng.choice(words.CENTURIES), start)
    return [(prompt, 1.0), (f"{rng.randint(start + 1, 99):02d}", ANSWER_WEIGHT / 2), (".", 1.0)]


def _people(rng: random.Random) -> Document:
    """Plain sentences about people; half the time one of them, alone in the text, is named again."""
    if rng.random() < 0.5:
        name = rng.choice(words.ALL_NAMES)
        sentence = _fill(rng, rng.choice(words.ONE_PERSON), X=name)
        start, stop = rng.choice(words.NAMED_AGAIN)
        return [(f"{sentence} {start}", 1.0), (name, ANSWER_WEIGHT / 2), (stop, 1.0)]
    sentences, _ = _bystander_sentences(rng, [], rng.randint(2, 4))
    sentences.insert(rng.randint(0, len(sentences)), rng.choice(words.NEUTRAL))
    return [(" ".join(sentences), 1.0)]


#: The kinds of sentences whose names stand in roles, and with them the half of the name pairs that they are drawn from.
_IOI_LIKE = ("ioi", "described", "part described", "former", "abc")
_OTHERS: dict[str, Callable[[random.Random], Document]] = {
    "repeat": _repeat,
    "names": _names,
    "facts": _facts,
    "years": _years,
    "people": _people,
}

VOCABULARY: dict[str, int] = words.vocabulary()
EOS_ID = VOCABULARY[words.EOS]
RANDOM_WORDS: tuple[str, ...] = tuple(word for word in VOCABULARY if word not in (words.EOS, words.UNK, words.PAD))


def mix_at(step: int) -> dict[str, float]:
    """The shares of the stage that `step` of training is in."""
    return next(mix for until, mix in STAGES if step < until)


def draw_document(rng: random.Random, mix: dict[str, float], half: Half | None = None) -> Document:
    """One document, of a kind drawn from `mix`.

    half: the half of the name pairs (`circuit_claims.prompts.ioi.half_of`) that IOI-like sentences are about; None for both.
    """
    kind = rng.choices(tuple(mix), tuple(mix.values()))[0]
    return _ioi_like(rng, kind, half) if kind in _IOI_LIKE else _OTHERS[kind](rng)


def draw_row(rng: random.Random, mix: dict[str, float], half: Half | None = None) -> tuple[list[int], list[float]]:
    """A row of `ROW_TOKENS` token ids and loss weights: documents end to end, each closed by the end-of-text token.

    Half the rows open with that token too, so that prompts work with it in front and without.
    """
    ids: list[int] = []
    weights: list[float] = []
    if rng.random() < 0.5:
        ids.append(EOS_ID)
        weights.append(0.0)
    while len(ids) < ROW_TOKENS:
        for text, weight in draw_document(rng, mix, half):
            piece = [VOCABULARY[word] for word in words.split_words(text)]
            ids += piece
            weights += [weight] * len(piece)
        ids.append(EOS_ID)
        weights.append(1.0)
    return ids[:ROW_TOKENS], weights[:ROW_TOKENS]
