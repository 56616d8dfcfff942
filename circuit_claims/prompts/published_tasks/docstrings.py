'''Docstrings: the parameters of a function are documented in their order, so after two of them comes the third.

    def load(self, size, files, last, mode):
        """unit oil column

        :param size: crime population
        :param files: dark wall
        :param

goes on with "last". Source: Heimersheim & Janiak 2023, "A circuit for Python docstrings in a 4-layer attention-only
transformer" (Alignment Forum): the form, four parameters of which two are documented, and their names for the positions: A,
B, C in `def` and in the docstring. Words are drawn from lists of common names and nouns, as theirs are.

The corrupted prompt has the third and the fourth parameter of the definition exchanged. So both prompts hold the same words,
and what decides between answer and foil is their order alone. Every word is one token for GPT-2's tokenizer and SmolLM2's.
'''

import random
from collections.abc import Iterator

from circuit_claims.prompts.published_tasks.pair import Pair

PARAMETERS: tuple[str, ...] = tuple(
    "data name file value result user key path url text string index error message image size event state row target source "
    "table code group filename option count tag title session token server date mode header shape port root width color".split()
)
FUNCTIONS: tuple[str, ...] = tuple("get load make run read build fetch apply update parse process check".split())
#: What descriptions are made of; each is one token without a space before it too, as the first of them stands.
NOUNS: tuple[str, ...] = tuple(
    "price control cost issue course minute education research girl age father force act health lot street patient mind "
    "paper bank century section activity building sense staff team town plan product practice evidence ground letter foot "
    "boy food union land art support stage trade voice arm club history care".split()
)
EACH = 6
SEED = 0

FORM = '''def {function}(self, [A_def: {A}], [B_def: {B}], [C_def: {C}], [D_def: {D}]):
    """{about}

    :param [A_doc: {A}]: {about_A}
    :param [B_doc: {B}]: {about_B}
    :param'''


def pairs() -> Iterator[Pair]:
    """240 pairs of 40 names that the answer is, which are the clusters."""
    chosen = random.Random(SEED)
    for answer in PARAMETERS:
        for _ in range(EACH):
            a, b, foil = chosen.sample([name for name in PARAMETERS if name != answer], 3)
            about, about_a, about_b = (" ".join(chosen.sample(NOUNS, words)) for words in (3, 2, 2))
            written = {
                "function": chosen.choice(FUNCTIONS),
                "A": a,
                "B": b,
                "about": about,
                "about_A": about_a,
                "about_B": about_b,
            }
            clean, corrupted = (FORM.format(**written, C=c, D=d) for c, d in ((answer, foil), (foil, answer)))
            yield Pair(clean, corrupted, answer, foil, answer)
