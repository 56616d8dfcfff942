"""The hypothesis tests of circuits: known answers, slow plain twins, how often they err, and whether they see what is there.

The known answers are those of Shi et al. 2024: on 74 of 100 prompts the circuit of IOI scores above the model. The twins find
by definition what the functions find by other means.
"""

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from circuit_claims.measure.circuit_tests import (
    Outcome,
    equivalence,
    equivalence_of_counts,
    independence,
    minimality,
    partial_necessity,
    sufficiency,
)


def most(runs: int, rate: float = 0.05) -> float:
    """The largest rate of errors that chance makes of `rate` in this many runs (99.9 %)."""
    return float(stats.binom.ppf(0.999, runs, rate)) / runs


# Twins


def binomial(count: int, n: int, p: float) -> float:
    """The probability of `count` of `n`."""
    return math.comb(n, count) * p**count * (1 - p) ** (n - count)


def equivalence_twin(above: int, n: int, epsilon: float) -> float:
    """The p-value as the paper writes it: over all counts that are as far from one half, compared as whole numbers."""
    return sum(binomial(k, n, 0.5 + epsilon) for k in range(n + 1) if abs(2 * k - n) >= abs(2 * above - n))


def median_width(values: list[float]) -> float:
    """The median distance of two of them."""
    return float(np.median([abs(values[i] - values[j]) for i in range(len(values)) for j in range(i)]))


def criterion_twin(x: list[float], y: list[float]) -> float:
    """The Hilbert-Schmidt independence criterion as Gretton et al. 2007 define it, by loops over four prompts."""
    n, width_x, width_y = len(x), median_width(x), median_width(y)

    def k(i: int, j: int) -> float:
        return math.exp(-((x[i] - x[j]) ** 2) / (2 * width_x**2))

    def m(i: int, j: int) -> float:
        return math.exp(-((y[i] - y[j]) ** 2) / (2 * width_y**2))

    every = range(n)
    joint = sum(k(i, j) * m(i, j) for i in every for j in every) / n**2
    apart = sum(k(i, j) * m(q, r) for i in every for j in every for q in every for r in every) / n**4
    cross = sum(k(i, j) * m(i, q) for i in every for j in every for q in every) / n**3
    return joint + apart - 2 * cross


# Known answers


def test_equivalence_of_the_published_circuit():
    """74 of 100: a distance of 0.24, and the sum of both tails under 0.6, not a normal approximation."""
    found = equivalence_of_counts(74, 100)
    assert found.statistic == pytest.approx(0.24)
    assert found.p_value == pytest.approx(stats.binom.sf(73, 100, 0.6) + stats.binom.cdf(26, 100, 0.6), rel=1e-12)
    assert found.p_value == pytest.approx(equivalence_twin(74, 100, 0.1), rel=1e-10)
    assert found.p_value != pytest.approx(2 * stats.norm.sf(0.14 / math.sqrt(0.6 * 0.4 / 100)), rel=0.1)
    assert found.reject and found.n == 100 and found.alpha == 0.05


@pytest.mark.parametrize(
    ("above", "n", "epsilon"), [(50, 100, 0.1), (0, 1, 0.1), (3, 7, 0.0), (9, 10, 0.2), (26, 100, 0.1), (60, 101, 0.4)]
)
def test_equivalence_is_the_exact_sum(above, n, epsilon):
    found = equivalence_of_counts(above, n, epsilon=epsilon)
    assert found.p_value == pytest.approx(min(1.0, equivalence_twin(above, n, epsilon)), rel=1e-9)
    assert found.p_value == pytest.approx(equivalence_of_counts(n - above, n, epsilon=epsilon).p_value), (
        "neither side is favoured"
    )


def test_equivalence_counts_prompts_and_not_sizes():
    circuit, model = np.zeros(100), np.r_[np.full(74, -1e-6), np.full(26, 1000.0)]
    assert equivalence(circuit, model) == equivalence_of_counts(74, 100)


def test_prompts_on_which_both_are_equal_decide_nothing():
    model = np.arange(40.0)
    assert equivalence(model, model) == Outcome(statistic=0.0, p_value=1.0, alpha=0.05, n=0)
    circuit = model + np.r_[np.ones(9), -1, np.zeros(30)]
    assert equivalence(circuit, model) == equivalence_of_counts(9, 10)


def test_the_criterion_is_what_its_definition_says():
    random = np.random.default_rng(0)
    for n in (2, 5, 9):
        x, y = random.normal(size=n), random.normal(size=n)
        assert independence(x, y, permutations=19).statistic == pytest.approx(criterion_twin(x.tolist(), y.tolist()), abs=1e-14)


def test_independence_counts_the_observed_order():
    """The smallest p-value of B permutations is 1 / (B + 1), never 0; and 1 where no order differs from another."""
    scores = np.arange(60.0)
    assert independence(scores, scores, permutations=99).p_value == 0.01
    assert independence(scores, np.zeros(60), permutations=99).p_value == 1.0
    assert independence(np.zeros(60), np.zeros(60)).p_value == 1.0


def test_random_permutations_approach_all_of_them():
    random = np.random.default_rng(1)
    x, y = random.normal(size=6), random.normal(size=6)
    observed = criterion_twin(x.tolist(), y.tolist())
    every = [criterion_twin(x.tolist(), list(order)) for order in permutations(y.tolist())]
    exact = sum(value >= observed - 1e-12 for value in every) / len(every)
    assert independence(x, y, permutations=4000).p_value == pytest.approx(exact, abs=0.03)


def test_independence_does_not_depend_on_units():
    """Each score has a kernel as wide as its own spread: shifted and scaled, the answer is the same."""
    random = np.random.default_rng(2)
    x = random.normal(size=80)
    y = 0.3 * x + random.normal(size=80)
    plain = independence(x, y, permutations=200)
    for other in (independence(1000 * x + 7, y, permutations=200), independence(x, y / 50 - 3, permutations=200)):
        assert (other.p_value, other.statistic) == (plain.p_value, pytest.approx(plain.statistic))
    assert independence(x, y, permutations=200, seed=1).p_value == pytest.approx(plain.p_value, abs=0.1)


def test_a_score_that_mostly_repeats_has_a_kernel_all_the_same():
    assert independence(np.r_[np.zeros(50), np.ones(10)], np.r_[np.zeros(50), np.ones(10)]).reject


@pytest.mark.parametrize(("beaten", "passes"), [(100, True), (96, True), (95, False), (90, False), (0, False)])
def test_sufficiency_asks_for_96_of_100(beaten, passes):
    """At a quantile of 0.9, 95 of 100 have a p-value of 0.058 and 96 one of 0.024."""
    model, circuit = np.zeros(10), np.ones(10)
    random = np.where(np.arange(100) < beaten, 2.0, 0.5)[:, None] * np.ones(10)
    expected = sum(binomial(k, 100, 0.9) for k in range(beaten, 101))
    found = sufficiency(circuit, model, random)
    assert (found.statistic, found.n, found.reject) == (beaten / 100, 100, passes)
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert partial_necessity(circuit, model, 1 / random).statistic == beaten / 100, "necessity is the other way round"


def test_a_random_circuit_that_is_as_near_is_not_beaten():
    assert sufficiency(np.ones(5), np.zeros(5), np.ones((100, 5))).statistic == 0
    assert partial_necessity(np.ones(5), np.zeros(5), np.ones((100, 5))).statistic == 0


def test_nearness_is_prompt_by_prompt():
    """A circuit with the model's mean and none of its scores is not near it."""
    model = np.array([1.0, -1.0] * 5)
    assert sufficiency(-model, model, np.zeros((100, 10))).statistic == 0


def test_minimality_tests_every_node_at_a_shared_level():
    """A node that beats 84 of 100 has a p-value of 0.04: enough alone, not among three; one that beats 70 could go."""
    random = np.arange(100.0)
    exceeding = [83.5, 69.5, 99.5]
    found = minimality(exceeding, random)
    for outcome, beaten in zip(found, (84, 70, 100), strict=True):
        assert outcome.statistic == beaten / 100 and outcome.alpha == 0.05 / 3
        assert outcome.p_value == pytest.approx(sum(binomial(k, 100, 0.9) for k in range(beaten + 1)), rel=1e-9)
    assert [outcome.reject for outcome in found] == [False, True, False]
    assert minimality([83.5], random)[0].reject


def test_a_node_that_changes_nothing_could_go():
    assert all(outcome.reject for outcome in minimality([0.0, 0.0], np.zeros(100)))


def test_an_outcome_cannot_be_changed():
    found = equivalence_of_counts(74, 100)
    with pytest.raises(FrozenInstanceError):
        found.p_value = 1.0  # pyright: ignore[reportAttributeAccessIssue]  # what it says is what is tested


# How often they are wrong, and what they see


def rejected(runs: int, test: Callable[[np.random.Generator], Outcome]) -> float:
    """How often the test rejects."""
    return sum(test(np.random.default_rng([3, run])).reject for run in range(runs)) / runs


@pytest.mark.parametrize("ahead", [0.4, 0.5, 0.6])
def test_equivalence_is_rejected_by_mistake_as_rarely_as_stated(ahead):
    """The circuit ahead on 40 to 60 % of prompts is what the null hypothesis allows."""

    def run(random: np.random.Generator) -> Outcome:
        return equivalence(random.normal(size=100) + stats.norm.ppf(ahead) * math.sqrt(2), random.normal(size=100))

    assert rejected(1000, run) <= most(1000)


def test_equivalence_sees_a_circuit_that_is_ahead():
    assert rejected(200, lambda random: equivalence(random.normal(size=100) + 1.5, random.normal(size=100))) > 0.95


@pytest.mark.parametrize("tail", ["normal", "heavy", "three values"])
def test_independence_is_rejected_by_mistake_as_rarely_as_stated(tail):
    draws: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "normal": lambda random: random.normal(size=40),
        "heavy": lambda random: random.standard_t(2, size=40),
        "three values": lambda random: random.integers(0, 3, size=40),
    }
    draw = draws[tail]
    assert rejected(500, lambda random: independence(draw(random), draw(random), permutations=99)) <= most(500)


def test_independence_sees_what_a_correlation_does_not():
    """A score that grows with the other, and one that grows with its size alone."""

    def rising(random: np.random.Generator) -> Outcome:
        x = random.normal(size=100)
        return independence(x, 0.5 * x + random.normal(size=100), permutations=199)

    def bent(random: np.random.Generator) -> Outcome:
        x = random.normal(size=100)
        return independence(x, x**2 + 0.5 * random.normal(size=100), permutations=199)

    assert rejected(60, rising) > 0.9 and rejected(60, bent) > 0.9


def chance_scores(random: np.random.Generator, own: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A circuit at the quantile `own` of random circuits' distances from the model: (circuit, model, random)."""
    model = random.normal(size=30)
    distance = np.quantile(np.linspace(0.5, 1.5, 10001), own)
    return model + distance, model, model + random.uniform(0.5, 1.5, size=(100, 1))


def test_sufficiency_is_found_by_mistake_as_rarely_as_stated():
    """A circuit that beats exactly 90 % of random ones is not better than 90 % of them."""
    assert rejected(1000, lambda random: sufficiency(*chance_scores(random, 0.1))) <= most(1000)
    assert rejected(1000, lambda random: partial_necessity(*chance_scores(random, 0.9))) <= most(1000)


def test_sufficiency_sees_a_circuit_that_is_nearer_than_all():
    assert rejected(100, lambda random: sufficiency(*chance_scores(random, 0.0))) == 1
    assert rejected(100, lambda random: partial_necessity(*chance_scores(random, 1.0))) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_a_minimal_circuit_is_said_not_to_be_as_rarely_as_stated(shared):
    """Ten nodes at the very quantile: that one of them is taken for needless, in at most 5 % of runs; uncorrected in more."""

    def any_rejected(random: np.random.Generator) -> bool:
        outcomes = (
            minimality(np.full(10, 0.9), random.random(100))
            if shared
            else [minimality([0.9], random.random(100))[0] for _ in range(10)]
        )
        return any(outcome.reject for outcome in outcomes)

    rate = sum(any_rejected(np.random.default_rng([4, run])) for run in range(400)) / 400
    assert rate <= most(400) if shared else rate > most(400)


def test_minimality_sees_the_node_that_could_go():
    def run(random: np.random.Generator) -> Outcome:
        return minimality(np.r_[np.full(9, 2.0), 0.5], random.random(100))[-1]

    assert rejected(100, run) == 1


# Bad input

ONES = np.ones(10)
RANDOM = np.ones((100, 10))
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "no prompts": (lambda: equivalence([], []), "circuit is empty"),
    "NaN": (lambda: equivalence([1.0, np.nan], [1.0, 2.0]), "circuit is NaN or infinite in 1 of 2"),
    "infinite": (lambda: independence([1.0, 2.0], [1.0, np.inf]), "model is NaN or infinite"),
    "other prompts": (lambda: equivalence(ONES, np.ones(9)), "different numbers of prompts: circuit has 10, model has 9"),
    "other prompts of independence": (lambda: independence(ONES, np.ones(9)), "different numbers of prompts"),
    "other prompts of random circuits": (lambda: sufficiency(ONES, ONES, np.ones((100, 9))), "random has 9"),
    "one random circuit without an axis": (lambda: sufficiency(ONES, ONES, ONES), "2 axes"),
    "no random circuits": (lambda: partial_necessity(ONES, ONES, np.ones((0, 10))), "random is empty"),
    "scores in a table": (lambda: independence(RANDOM, ONES), "1 axis"),
    "alpha of 0": (lambda: equivalence(ONES, ONES, alpha=0.0), "alpha should lie between 0 and 1"),
    "alpha of 1": (lambda: independence(ONES, ONES, alpha=1.0), "alpha"),
    "alpha of minimality": (lambda: minimality([1.0], ONES, alpha=5.0), "alpha"),
    "quantile": (lambda: sufficiency(ONES, ONES, RANDOM, quantile=90), "quantile should lie between 0 and 1, and is 90"),
    "epsilon": (lambda: equivalence(ONES, ONES, epsilon=0.5), "epsilon"),
    "tests": (lambda: sufficiency(ONES, ONES, RANDOM, tests=0), "at least 1"),
    "a count above n": (lambda: equivalence_of_counts(11, 10), "11 of 10"),
    "no counts": (lambda: equivalence_of_counts(0, 0), "0 of 0"),
    "too few permutations": (lambda: independence(ONES, ONES, permutations=18), "take at least 19"),
    "a negative change": (lambda: minimality([-0.1], ONES), "negative"),
    "no nodes": (lambda: minimality([], ONES), "changes is empty"),
    "no random nodes": (lambda: minimality([1.0], []), "random_changes is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
