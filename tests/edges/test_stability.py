"""Stability of found circuits: chance by simulation, and a verdict that random sets, one set and the embedded model deserve."""

import numpy as np
import pytest

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.stability import agreement_of, chance_jaccard, jaccard, stability
from circuit_claims.notebook import IOI

NAMES = [f"circuit {i}" for i in range(8)]


def drawn(random: np.random.Generator, n_edges: int, size: int) -> np.ndarray:
    mask = np.zeros(n_edges, dtype=bool)
    mask[random.choice(n_edges, size, replace=False)] = True
    return mask


def near(random: np.random.Generator, mask: np.ndarray, swapped: int) -> np.ndarray:
    """The same set with some edges exchanged for others."""
    other = mask.copy()
    other[random.choice(np.flatnonzero(mask), swapped, replace=False)] = False
    other[random.choice(np.flatnonzero(~mask), swapped, replace=False)] = True
    return other


@pytest.mark.parametrize(("n_edges", "a", "b"), [(40, 10, 10), (40, 30, 12), (10, 10, 9), (12, 1, 1), (9, 0, 4)])
def test_the_chance_of_two_random_sets_is_what_drawing_them_gives(n_edges, a, b):
    random = np.random.default_rng(0)
    draws = [jaccard(drawn(random, n_edges, a), drawn(random, n_edges, b)) for _ in range(4000)]
    assert chance_jaccard(n_edges, a, b) == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / 4000**0.5 + 1e-9)


def test_random_sets_are_not_stable_and_agree_by_chance_alone():
    random = np.random.default_rng(1)
    found = agreement_of([drawn(random, 500, 200) for _ in NAMES], NAMES)
    assert found.outcome == "not stable"
    assert found.low < 0 < found.high
    assert found.mean_jaccard > 0.2, "sets as large as these share much by chance, which must not count"


def test_one_set_found_again_and_again_is_stable():
    mask = drawn(np.random.default_rng(2), 500, 50)
    found = agreement_of([mask] * 8, NAMES)
    assert found.outcome == "stable" and found.agreement == 1
    assert (found.always == mask).all()
    assert str(found).startswith("stable: 8 circuits share 100% of their edges")


def test_where_the_interval_straddles_what_is_asked_for_it_is_inconclusive():
    random = np.random.default_rng(3)
    mask = drawn(random, 500, 60)
    found = agreement_of([near(random, mask, swapped) for swapped in (0, 5, 10, 12, 14, 16, 20, 30)], NAMES)
    assert found.low < found.agreement < found.high
    straddling = agreement_of(found.masks, NAMES, least=found.agreement)
    assert straddling.outcome == "inconclusive"


def test_sets_of_all_edges_agree_by_chance_alone():
    assert agreement_of([np.ones(20, dtype=bool)] * 4, NAMES[:4]).outcome == "not stable"


def test_two_circuits_are_too_few():
    with pytest.raises(EdgeError, match="2 circuits are too few"):
        agreement_of([np.ones(20, dtype=bool)] * 2, NAMES[:2])


def test_the_interval_covers_the_mean_of_many_variants():
    """Variants that each keep an edge of a core by chance: the agreement of infinitely many is simulated with very many."""
    random = np.random.default_rng(4)
    core = drawn(random, 300, 60)

    def variants(n: int) -> list[np.ndarray]:
        return [near(random, core, int(random.integers(5, 25))) for _ in range(n)]

    truth = agreement_of(variants(150), [""] * 150).agreement
    inside = [(found := agreement_of(variants(8), NAMES)).low <= truth <= found.high for _ in range(120)]
    assert np.mean(inside) > 0.9


def test_circuits_of_the_embedded_model_are_found_again_and_random_ones_are_not(mini):
    ioi = IOI(mini)
    found = stability(ioi, "EAP-IG inputs", 50, n=30)
    random = stability(ioi, "random", 50, n=30)
    assert len(found.masks) == 8 and len(set(found.names)) == 8
    assert all(mask.sum() == 50 for mask in found.masks)
    assert random.outcome == "not stable" and random.high < found.low
    assert found.outcome != "not stable"


def test_a_model_that_does_not_do_the_task_has_no_circuit_to_be_stable(random_subject):
    with pytest.raises(EdgeError, match=r"no circuit of .* for this task"):
        stability(IOI(random_subject), "EAP", 20, n=12)


def test_prompts_of_one_template_cannot_be_divided(mini):
    with pytest.raises(EdgeError, match="all prompts are of one template"):
        stability(IOI(mini).on(templates=[0]), "EAP", 20, n=12)


def test_more_edges_than_there_are_cannot_be_looked_for(mini):
    n = len(EdgeGraph.of(mini.transformer))
    with pytest.raises(EdgeError, match=rf"a circuit of {n + 1:,} edges is asked for"):
        stability(IOI(mini), "EAP", n + 1, n=12)
