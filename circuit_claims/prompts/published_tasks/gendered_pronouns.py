"""Gendered pronouns: "So Mary is a really great friend, isn't" goes on with "she".

Source: Mathwin et al. 2023, "Identifying a Preliminary Circuit for Predicting Gendered Pronouns in GPT-2 Small" (Apart
Research hackathon; cmathw.itch.io). Five templates and twenty names, a hundred prompts, which are the clean ones here, in the
authors' Automatic_Circuits_Script.ipynb as Conmy's script for the same task and later reimplementations of it keep them.

The authors corrupt with "That person"; here the corrupted prompt has a name of the other gender, as their judge proposed, so
that its answer is the foil, and all that is patched is the gender. Each of the hundred prompts stands in two pairs, with two
such names, so that the mean over all pairs is the mean over the published prompts.
"""

import random
from collections.abc import Iterator

from circuit_claims.prompts.published_tasks.pair import Pair

TEMPLATES: tuple[str, ...] = (
    "So {} [is: is] a really great friend, isn't",
    "So {} [is: is] such a good cook, isn't",
    "So {} [is: is] a very good athlete, isn't",
    "So {} [is: is] a really nice person, isn't",
    "So {} [is: is] such a funny person, isn't",
)
NAMES: dict[str, tuple[str, ...]] = {
    "he": tuple("John David Mark Paul Ryan Gary Jack Sean Carl Joe".split()),
    "she": tuple("Mary Lisa Anna Sarah Amy Carol Karen Susan Julie Judy".split()),
}
SEED = 0


def pairs() -> Iterator[Pair]:
    """200 pairs of 20 names, which are the clusters."""
    chosen = random.Random(SEED)
    for answer, foil in (("he", "she"), ("she", "he")):
        for name in NAMES[answer]:
            others = chosen.sample(NAMES[foil], 2 * len(TEMPLATES))  # each once
            for template in TEMPLATES:
                for _ in range(2):
                    clean, corrupted = (template.format(f"[name: {each}]") for each in (name, others.pop()))
                    yield Pair(clean, corrupted, answer, foil, name)
