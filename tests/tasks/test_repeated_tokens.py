"""Scores on random tokens, said twice, against plain loops over positions on the bridge's own attention patterns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_claims.cards.schema import PublishedTable
from circuit_claims.heads import Head
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.random_tokens import DRAWS
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.induction.repeated_tokens import PAIRS, SCORES, SEQUENCES, RepeatedTokens
from circuit_claims.untested import Untested

N = 3
#: mini's context.
ROOM = 96


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def repeated(mini: Subject, request: pytest.FixtureRequest) -> RepeatedTokens:
    return RepeatedTokens(subject=mini, seed=0, prepend_bos=request.param, length=9)


def plain_scores(repeated: RepeatedTokens, tokens: torch.Tensor, period: int) -> dict[str, np.ndarray]:
    """Each score of every head on one sequence, position by position: `[layer, head]`."""
    bos = int(repeated.prepend_bos)
    with torch.inference_mode():
        cache = repeated.subject.bridge.run_with_cache(tokens[None], prepend_bos=False)[1]
    scores = {score: np.zeros((4, 8)) for score in SCORES}
    for layer in range(4):
        patterns = cache[f"blocks.{layer}.attn.hook_pattern"][0]
        for head in range(8):
            attends = patterns[head].tolist()
            previous = [attends[q][q - 1] for q in range(len(tokens)) if q - 1 >= bos]
            duplicate, induction = [], []
            for i in range(period):  # the i-th token of the second half, and where it was said before
                again, before = bos + period + i, bos + i
                assert tokens[again] == tokens[before]
                duplicate.append(attends[again][before])
                induction.append(attends[again][before + 1])
            diagonal = [attends[bos + period - 1][bos], *induction]  # TransformerLens's: the last of the first half looks, too
            for score, values in zip(SCORES, (previous, duplicate, induction, diagonal), strict=True):
                scores[score][layer, head] = sum(values) / len(values)
    return scores


def test_the_scores_are_those_of_plain_loops(repeated):
    tokens = repeated._tokens()
    for i in range(N):
        expected = plain_scores(repeated, tokens[i], 9)
        for score in SCORES:
            measured = repeated.attention_scores(score).take(N).values
            assert measured.shape == (N, 4, 8)
            assert measured[i] == pytest.approx(expected[score], abs=1e-5), score
    heads = {score: repeated.attention_scores(score).take(SEQUENCES).estimate for score in SCORES}
    for score in SCORES:
        assert heads[score].max() > 2 / 9, f"some head does that: {score}"
    assert len({np.abs(grid).tobytes() for grid in heads.values()}) == len(SCORES)


def test_the_tokens_are_said_twice_after_BOS_and_none_is_special(repeated):
    tokens, bos = repeated._tokens(), int(repeated.prepend_bos)
    tokenizer = repeated.subject.tokenizer
    assert tokens.shape == (SEQUENCES, bos + 18)
    if bos:
        assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    said = tokens[:, bos:]
    assert (said[:, :9] == said[:, 9:]).all()
    # Enough of them that a special token, were they drawn, would be among them.
    many = replace(repeated, length=ROOM, store=SessionStore())._tokens()[:, bos:]
    assert not set(many.flatten().tolist()) & set(tokenizer.all_special_ids)
    assert len(tokenizer.all_special_ids) > 0 and int(many.max()) < repeated.subject.transformer.d_vocab
    assert len(set(many.flatten().tolist())) > 500, "from all over the vocabulary"
    assert len({tuple(row) for row in said.tolist()}) == SEQUENCES


def test_no_special_token_is_drawn_from_a_vocabulary_of_little_else(repeated, monkeypatch):
    """All but ten tokens are called special: what is drawn are the ten."""
    ordinary = set(range(50, 60))
    special = [token for token in range(len(repeated.subject.tokenizer)) if token not in ordinary]
    monkeypatch.setattr(type(repeated.subject.tokenizer), "all_special_ids", property(lambda self: special))
    drawn = replace(repeated, store=SessionStore())._tokens()[:, int(repeated.prepend_bos) :]
    assert set(drawn.flatten().tolist()) == ordinary


def test_the_seed_decides_what_is_said(repeated):
    same, other = (replace(repeated, seed=seed, store=SessionStore())._tokens() for seed in (0, 1))
    assert (same == repeated._tokens()).all() and (other != same).any()


def test_a_short_context_shortens_the_half(repeated, monkeypatch):
    bos = int(repeated.prepend_bos)
    long = replace(repeated, length=100, store=SessionStore())
    assert long.half == (ROOM - bos) // 2
    assert long._tokens().shape[1] == bos + 2 * long.half <= ROOM
    grid = long.attention_scores("induction").take(1)
    assert grid.values[0] == pytest.approx(plain_scores(long, long._tokens()[0], long.half)["induction"], abs=1e-5)
    assert str(long.half) in grid.quantity
    assert repeated.half == 9
    found = {}
    for room in (7, 8, 10):
        monkeypatch.setattr(repeated.subject.transformer, "n_ctx", room + bos)
        try:
            found[room] = repeated.half
        except Untested as error:  # which by itself would skip the test
            found[room] = str(error)
    assert found == {7: f"mini has a context of {7 + bos} tokens: too short to repeat any", 8: 4, 10: 5}


def test_there_are_no_more_sequences_than_the_sample_has(repeated):
    measurement = repeated.attention_scores("previous token")
    assert measurement.limit == SEQUENCES and measurement.prepend_bos == repeated.prepend_bos
    few, all_ = measurement.take(5), measurement.take(SEQUENCES + 10)
    assert few.n == 5 and all_.n == SEQUENCES
    assert (all_.values[:5] == few.values).all()
    assert list(all_.clusters) == list(range(SEQUENCES)), "each sequence by itself"


def test_an_unknown_score_is_refused(repeated):
    with pytest.raises(
        ValueError, match="'next token': use one of previous token, duplicate token, induction, induction diagonal"
    ):
        repeated.attention_scores("next token")


def test_variants_of_one_story_are_scored_apart(repeated, monkeypatch):
    """They share what was measured; what they say is another thing, with BOS, of another length or by another seed."""
    here = repeated.attention_scores("induction").take(1).values
    for change in ({"prepend_bos": not repeated.prepend_bos}, {"length": 12}, {"seed": 5}):
        other = replace(repeated, **change).attention_scores("induction").take(1).values
        assert np.abs(other - here).max() > 1e-4, change
    monkeypatch.setattr(type(repeated.subject.transformer), "run", None)  # nothing is measured a second time
    assert (repeated.attention_scores("induction").take(1).values == here).all()


def test_token_ids_are_those_of_the_source_where_the_vocabulary_has_them(repeated):
    special = set(repeated.subject.tokenizer.all_special_ids)
    some = replace(repeated, ids=(100, 120), store=SessionStore())
    said = set(some._tokens()[:, int(some.prepend_bos) :].flatten().tolist())
    assert said == set(range(100, 120)) - special and "(ids 100 to 119)" in some.about
    beyond = replace(repeated, ids=(1000, 10_000), store=SessionStore())
    assert (beyond._tokens() == repeated._tokens()).all() and "ids" not in beyond.about


@pytest.mark.parametrize("notebook", DRAWS)
def test_a_notebooks_set_up_is_its_own(repeated, notebook):
    task, draw = repeated.as_drawn_by(notebook), DRAWS[notebook]
    assert (task.length, task.ids, task.sequences) == (draw.length, (draw.first, draw.end), draw.sequences)
    assert not task.prepend_bos and task.store is repeated.store and task.seed == repeated.seed


def test_the_tolerance_is_three_standard_errors_of_the_sources_draw(repeated):
    """Of all the ways to draw as many sequences as the source, nearly all lie within it, and with half of it many do not."""
    ours = replace(repeated, sequences=4)
    score = ours.score_of(Head(3, 4), "induction")
    values = score.take(SEQUENCES).values
    assert values == pytest.approx(repeated.attention_scores("induction").take(SEQUENCES).values[:, 3, 4])
    draws = np.random.default_rng(0).choice(values, (4000, 4)).mean(1)
    within = ours.tolerance(score, 0.0)
    assert (np.abs(draws - values.mean()) < within).mean() > 0.99
    assert (np.abs(draws - values.mean()) < within / 2).mean() < 0.95
    assert ours.tolerance(score, 0.01) == pytest.approx(within + 0.005)


def published(values: np.ndarray) -> PublishedTable:
    rows, columns = tuple(f"L{i}" for i in range(4)), tuple(f"H{i}" for i in range(8))
    return PublishedTable(f"scores {values.sum()}", rows, columns, tuple(map(tuple, values)), "probability", None, "a test")


@pytest.mark.parametrize("by", ["largest difference", "correlation"])
def test_another_draw_of_the_same_model_is_not_far_and_moved_heads_are(repeated, by):
    ours = replace(repeated, sequences=10)
    others = replace(repeated, seed=77, store=SessionStore()).attention_scores("induction").take(10).estimate

    def chance(values):
        taken = ours.chance_of_distance("induction", published(values), by=by).take(PAIRS)
        assert taken.unit == "rate" and taken.n == PAIRS
        assert taken.drawn["expected"] == values.tolist() and np.shape(taken.drawn["values"]) == (4, 8)
        return taken.estimate

    assert chance(others) > 0.01
    assert chance(others[::-1]) == 0
    assert chance(repeated.attention_scores("induction").take(SEQUENCES).estimate) == 1, "nothing is nearer than the same"


def test_a_source_of_more_sequences_is_held_to_more(repeated):
    """A difference that two draws of ten may well show, one of a thousand may not."""
    near = repeated.attention_scores("induction").take(SEQUENCES).estimate
    spread = repeated.attention_scores("induction").take(SEQUENCES).values.std(0).max() / 10**0.5
    moved = near.copy()
    moved[3, 4] += 1.2 * spread
    few, many = (replace(repeated, sequences=n, store=SessionStore()) for n in (10, 1000))
    shares = [
        s.chance_of_distance("induction", published(moved), by="largest difference").take(PAIRS).estimate for s in (few, many)
    ]
    assert shares[0] > 0.05 and shares[1] < shares[0] / 2


def test_the_excess_is_over_the_mean_of_the_heads(repeated):
    heads, grid = [Head(3, 4), Head(3, 5)], repeated.attention_scores("induction").take(SEQUENCES).values
    excess = repeated.excess(heads, "induction", 0.25).take(SEQUENCES)
    assert excess.values == pytest.approx((grid[:, 3, 4] + grid[:, 3, 5]) / 2 - 0.25)
