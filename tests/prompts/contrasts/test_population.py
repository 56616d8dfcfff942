"""Pairs as a population: halves by cluster, an order by seed, and answers dealt out anew."""

from collections import Counter
from dataclasses import replace

import pytest

from circuit_claims.prompts.contrasts.errors import PairsError
from circuit_claims.prompts.contrasts.population import DEALT, Contrasts


def pairs(n: int = 40, clusters: int = 10, **more):
    return [
        {"clean": f"clean {i}", "corrupted": f"corrupted {i}", "answer": f"a{i}", "foil": f"f{i}", "cluster": i % clusters}
        | more
        for i in range(n)
    ]


def drawn(population: Contrasts, seed: int = 0):
    """All of its prompts, in the order of a seed."""
    stream = population.stream(seed)
    return [next(stream) for _ in range(len(population))]


def test_every_pair_is_drawn_once_in_an_order_by_seed():
    population = Contrasts.of(pairs())
    texts = [prompt.text for prompt in drawn(population)]
    assert sorted(texts) == sorted(pair["clean"] for pair in pairs())
    assert texts == [prompt.text for prompt in drawn(Contrasts.of(pairs()))]
    assert texts != [prompt.text for prompt in drawn(population, seed=1)]
    stream = population.stream(0)
    for _ in range(40):
        next(stream)
    with pytest.raises(ValueError, match="there are no more than 40 pairs"):
        next(stream)


def test_the_halves_share_no_cluster_and_are_the_same_on_every_machine():
    verdict, discovery = (Contrasts.of(pairs(), half=half) for half in ("verdict", "discovery"))
    ours, theirs = ({prompt.cluster for prompt in drawn(half)} for half in (verdict, discovery))
    assert not ours & theirs and len(ours) == len(theirs) == 5 and len(verdict) == len(discovery) == 20
    # What sha256 makes of "0" to "9", worked out by itself.
    import hashlib

    ordered = sorted(map(str, range(10)), key=lambda name: hashlib.sha256(name.encode()).digest()[:8])
    assert theirs == set(ordered[::2]) and ours == set(ordered[1::2])


def test_a_half_that_is_too_small_is_told():
    with pytest.raises(PairsError, match="the verdict half of the list of pairs has 5 pairs in 5 clusters: give at least 8"):
        Contrasts.of(pairs(10, 10), half="verdict").check()


def test_dealt_answers_are_those_of_pairs_of_other_clusters():
    population = Contrasts.of(pairs(), dealt=True)
    own = {prompt.text: prompt for prompt in drawn(replace(population, dealt=False))}
    cluster_of = {prompt.answers: prompt.cluster for prompt in own.values()}
    dealt = drawn(population)
    assert Counter(prompt.answers for prompt in dealt) == Counter(prompt.answers for prompt in own.values())
    assert all(cluster_of[prompt.answers] != prompt.cluster for prompt in dealt)
    assert all(own[prompt.text].corrupted_text == prompt.corrupted_text for prompt in dealt)
    assert [prompt.answers for prompt in dealt] == [prompt.answers for prompt in drawn(Contrasts.of(pairs(), dealt=True))]
    assert population.about("", ()) == population.about(f", {DEALT}", ()) == f"40 pairs of the list of pairs, {DEALT}"
    assert "answers dealt out anew" in str(population) and population != replace(population, dealt=False)


def test_clusters_that_list_their_answers_in_one_order_are_dealt_out_all_the_same():
    alike = [pair | {"answer": f"a{i // 10}", "foil": f"f{i // 10}"} for i, pair in enumerate(pairs())]
    own = {prompt.text: prompt.answers for prompt in drawn(Contrasts.of(alike))}
    kept = [prompt.answers == own[prompt.text] for prompt in drawn(Contrasts.of(alike, dealt=True))]
    assert sum(kept) < 20, "a quarter by chance"


def test_dealing_that_would_change_nothing_is_refused():
    with pytest.raises(PairsError, match="have the same answer and foil: dealing them out changes nothing"):
        Contrasts.of(pairs(answer="yes", foil="no"), dealt=True).check()
    with pytest.raises(PairsError, match="has 36 of 40 pairs in one cluster: answers cannot be dealt out"):
        Contrasts.of([pair | {"cluster": int(i > 35)} for i, pair in enumerate(pairs())], dealt=True).check()


def test_pairs_of_one_clean_text_are_one_observation_unless_a_column_says_otherwise():
    twice = [{key: value for key, value in pair.items() if key != "cluster"} | {"clean": "the same"} for pair in pairs()]
    assert {prompt.cluster for prompt in drawn(Contrasts.of(twice))} == {"the same"}
    assert len({prompt.cluster for prompt in drawn(Contrasts.of(pairs()))}) == 10


def test_a_pair_that_stands_there_twice_is_one():
    population = Contrasts.of([*pairs(), *pairs()[:3]])
    assert len(population) == 40
    assert str(population) == "40 pairs of the list of pairs (3 that stood there twice left out)"
    assert population == Contrasts.of(pairs())


def test_populations_differ_where_their_pairs_do():
    assert Contrasts.of(pairs()) != Contrasts.of([pairs()[0] | {"foil": "other"}, *pairs()[1:]])
    assert Contrasts.of(pairs()) != Contrasts.of([pairs()[0] | {"cluster": "other"}, *pairs()[1:]])
    assert Contrasts.of(pairs()) != Contrasts.of(pairs(), space=False)
    with pytest.raises(ValueError, match="unknown change 'ABC': the one there is of a pair is 'corrupted'"):
        drawn(Contrasts.of(pairs()))[0].changed("ABC")
