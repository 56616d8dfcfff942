"""Tasks of a few facts, for tests."""

from circuit_claims.prompts.facts import FactList
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.facts.task import Facts

N = 5
SOME = FactList(relations=("capital", "material"), known=False)


def task(subject: Subject, population: FactList = SOME, *, bos: bool = False, chunk: int = 3) -> Facts:
    return Facts(subject=subject, seed=0, chunk=chunk, population=population, prepend_bos=bos)
