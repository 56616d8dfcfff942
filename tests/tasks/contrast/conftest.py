"""Subjects in double precision, so that a plain twin agrees to the last digits, and tasks of pairs on them."""

from pathlib import Path

import pytest

from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.contrast.task import ContrastTask
from tests.support.gpt2_tokens import save_narrow_gpt2
from tests.tasks.contrast.capitals import UNLIKE, capitals, task


@pytest.fixture(scope="session")
def exact_mini() -> Subject:
    """The embedded model in double precision."""
    return Subject(prepare(Settings(name="mini", dtype="float64")))


@pytest.fixture(scope="session")
def exact_noise(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A narrow random model with GPT-2's own tokenizer, in double precision."""
    folder = save_narrow_gpt2(tmp_path_factory.mktemp("noise") / "noise", gpt2_folder, width=24)
    return Subject(prepare(Settings(name=str(folder), card="none", dtype="float64")))


@pytest.fixture(scope="session")
def known(exact_mini: Subject) -> ContrastTask:
    """Capitals, which the embedded model knows; all pairs have one layout."""
    return task(exact_mini, capitals(), chunk=5)


@pytest.fixture(scope="session")
def unlike(exact_noise: Subject) -> ContrastTask:
    """Pairs whose texts differ in length, with marks of one to four tokens."""
    return task(exact_noise, UNLIKE, chunk=5)
