"""Subject-verb agreement across a noun of either number: "The keys on the cabinet" goes on with "are".

Sources: Linzen, Dupoux & Goldberg 2016 (arXiv 1611.01368): agreement, and nouns of the other number that attract it. Marvin &
Linzen 2018 (arXiv 1808.09031): the template with a prepositional phrase, of which many nouns and prepositions here are.
Finlayson et al. 2021 (arXiv 2106.06087): the corrupted prompt has the subject in its other number, all else kept; so do the
pairs of CausalGym (Arora et al. 2024, arXiv 2402.12560) and Marks et al. 2024 (arXiv 2403.19647).

Every lemma is the subject of eight pairs: in either number, before a noun of either number, twice each. So the noun in
between says nothing of the answer. The verbs are those that mean next to nothing: is/are, was/were, has/have. Every noun, in
either number, is one token with a space before it for GPT-2's tokenizer and SmolLM2's.
"""

import random
import re
from collections.abc import Iterator

from circuit_claims.prompts.published_tasks.pair import Pair

PEOPLE: tuple[str, ...] = tuple(
    "author pilot surgeon farmer manager customer officer teacher senator consultant lawyer doctor student guard executive "
    "minister dancer architect assistant singer".split()
)
THINGS: tuple[str, ...] = tuple(
    "key letter picture book car report table window door chair bottle coat phone computer lamp toy cup plate flower "
    "clock".split()
)
#: People stand among people, and things among things.
OF_PEOPLE: tuple[str, ...] = ("next to", "behind", "in front of", "near", "across from")
OF_THINGS: tuple[str, ...] = ("next to", "behind", "in front of", "near", "on")
VERBS: tuple[tuple[str, str], ...] = (("is", "are"), ("was", "were"), ("has", "have"))
MARKED = re.compile(r": (\w+)\]")
SEED = 0


def pairs() -> Iterator[Pair]:
    """320 pairs of 40 lemmas, which are the clusters."""
    chosen = random.Random(SEED)
    for number, lemma in enumerate((*PEOPLE, *THINGS)):
        kind, prepositions = (PEOPLE, OF_PEOPLE) if lemma in PEOPLE else (THINGS, OF_THINGS)
        others = [noun for noun in kind if noun != lemma]
        for plural in (False, True):
            for plural_between in (False, True):
                for time, between in enumerate(chosen.sample(others, 2)):
                    preposition = chosen.choice(prepositions)
                    one, many = VERBS[(number + 2 * plural_between + time) % len(VERBS)]
                    texts = [
                        f"The [noun: {_in_number(lemma, its)}] {preposition} "
                        f"the [attractor: {_in_number(between, plural_between)}]"
                        for its in (plural, not plural)
                    ]
                    answers = (many, one) if plural else (one, many)
                    yield Pair(texts[0], texts[1], *answers, lemma)


def with_a_noun_of_the_other_number() -> list[Pair]:
    """The pairs in whose clean text the noun in between has the other number than the subject: half of them."""
    return [pair for pair in pairs() if len({noun.endswith("s") for noun in MARKED.findall(pair.clean)}) == 2]


def _in_number(lemma: str, plural: bool) -> str:
    return f"{lemma}s" if plural else lemma
