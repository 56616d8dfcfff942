"""Tasks of year spans, for tests."""

from dataclasses import replace

from circuit_claims.prompts.greater_than import (
    YearPrompt,
    Years,
    years_for,
)
from circuit_claims.tasks.greater_than.task import GreaterThan


def task(subject, *, half="verdict", chunk=4) -> GreaterThan:
    population = replace(years_for(subject.tokenizer), half=half)
    return GreaterThan(subject=subject, seed=0, chunk=chunk, population=population, prepend_bos=True)


def population_sample(population: Years, n: int) -> list[YearPrompt]:
    stream = population.stream(0)
    return [next(stream) for _ in range(n)]
