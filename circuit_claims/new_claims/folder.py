"""The files of a folder of claims that `circuit-claims new` writes: all of them, or none."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from circuit_claims.heads import Head
from circuit_claims.tasks.operations.ablation import Ablation


@dataclass(frozen=True)
class Written:
    """What the files of a folder say.

    name: of the task's fixture, and of the folder; source: what the fixture reads pairs from, a file beside it or what else was
    given; options: further arguments of `contrast_task`; subject: as for --subject; date: of today, as claims cite it.
    recoveries: the heads that were found, with what each recovers; by: how they are knocked out; spared: whether nothing is
    lost without them.
    """

    name: str
    source: str
    options: Mapping[str, object]
    subject: str
    date: str
    recoveries: Mapping[Head, float]
    by: Ablation
    spared: bool = False

    def conftest(self) -> str:
        """The fixtures: the task, and the card."""
        options = "".join(f", {key}={_literal(value)}" for key, value in self.options.items())
        return f'''"""What the claims of this folder are about, and the card that their numbers stand on."""

import pytest


@pytest.fixture(scope="session")
def {self.name}(contrast_task):
    """The half of the pairs that the card was not found on."""
    return contrast_task({_literal(self.source)}, half="verdict"{options})


@pytest.fixture(scope="session")
def card(card_file):
    """What a short sweep found on the other half."""
    return card_file("card.toml")
'''

    def claims(self) -> str:
        """The claims: five where heads were found, else two."""
        head = f'''"""What {_in_prose(self.subject)} does with the pairs of {self.name}, as `circuit-claims new` wrote it.

The card beside this file has the numbers, from half of the pairs; these claims are judged on the other half. They are
exploratory: heads and numbers were looked for, not predicted. Change them, add to them, and give each the source that it has.
"""

from hypothesis import given
from hypothesis import strategies as st

EXPLORATORY = "exploratory, {self.date}"


def test_the_answer_is_ahead_of_its_foil({self.name}, card, expect):
    """The answer is ahead of its foil by at least half of the logit difference that was found."""
    expect({self.name}.logit_difference(), EXPLORATORY).above(card["least_logit_difference"])


@given(data=st.data())
def test_what_is_corrupted_matters_in_every_set_of_clusters({self.name}, card, expect, data):
    """The corrupted texts lower the logit difference on average, whichever clusters of pairs are taken."""
    some = {self.name}.among(data.draw({self.name}.sets_of_clusters()))
    expect(some.baseline("corrupted"), EXPLORATORY).always_above(card["least_logit_difference"].bound(0))
'''
        return head + (self._claims_about_heads() if self.recoveries else "")

    def _claims_about_heads(self) -> str:
        return f'''

def test_few_heads_carry_it_at_END({self.name}, card, expect):
    """The carriers on the card, patched at END into the corrupted texts, recover at least half of what was found."""
    expect({self.name}.patch(card.heads("carrier"), at="END").recovery(), EXPLORATORY).above(card["carriers_recover"])


{self._claim_about_what_is_left()}


def test_as_many_random_heads_do_not_carry_it({self.name}, card, expect):
    """As many other heads, drawn at random, recover less than that at END."""
    nodes = {self.name}.random_nodes_like([(head, "END") for head in card.heads("carrier")])
    recovery = {self.name}.patch(sorted(head for head, _ in nodes), at="END").recovery()
    expect(recovery, EXPLORATORY).below(card["carriers_recover"])
'''

    def _claim_about_what_is_left(self) -> str:
        if self.spared:
            name, said = (
                "the_carriers_can_be_spared",
                "at least half of the share of the logit difference that was found is left",
            )
            bound = '.above(card["least_left_without_the_carriers"])'
        else:
            name, said = (
                "without_the_carriers_much_is_lost",
                "at least half as much of the logit difference is lost as was found",
            )
            bound = '.below(card["most_left_without_the_carriers"])'
        return f'''def test_{name}({self.name}, card, expect):
    """Without the carriers ({self.by} ablation), {said}."""
    remaining = {self.name}.ablate(card.heads("carrier"), by="{self.by}").remaining()
    expect(remaining, EXPLORATORY){bound}'''

    def readme(self) -> str:
        """How to run what is here."""
        return f"""# {self.name}

    pytest {self.name} --subject {self.subject}
    circuit-claims audit {self.name} --subject {self.subject}

The first command puts the claims of `test_{self.name}.py` to the model and writes a report; the second one runs them on
controls, and says which of them cannot fail. `card.toml` has the numbers that were found on half of the pairs, `conftest.py`
the fixtures.
"""


def write(folder: Path, files: Mapping[str, str], pairs: Path | None) -> None:
    """Write the files, and a copy of `pairs`, into a new folder; nothing is left where that fails.

    Raises OSError where it cannot be written, and FileExistsError where there is something of that name already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already: remove it, or give the claims another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, text in files.items():
            (half / name).write_text(text, encoding="utf-8")
        if pairs is not None:
            shutil.copyfile(pairs, half / copied_as(pairs))
        half.chmod(0o755)
        os.replace(half, folder)  # an empty folder of that name gives way
    finally:
        shutil.rmtree(half, ignore_errors=True)


def copied_as(pairs: Path) -> str:
    """What a file of pairs is called in the folder."""
    return f"pairs{pairs.suffix.lower()}"


def _literal(value: object) -> str:
    """A value as Python source, with double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _in_prose(subject: str) -> str:
    """A subject's name inside a docstring: a path by its last part."""
    return subject.rstrip("/").rsplit("/", 1)[-1].replace("\\", " ").replace('"', "'")
