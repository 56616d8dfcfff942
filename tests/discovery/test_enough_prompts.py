"""On how many prompts things are measured: as few as show what all of them would."""

import numpy as np
import pytest

from circuit_claims import forward_passes
from circuit_claims.cards.card import Card
from circuit_claims.discovery import family_search, search, tables
from circuit_claims.discovery.combined_sweeps import minus
from circuit_claims.discovery.enough_prompts import cells_told, looks, off_by
from circuit_claims.discovery.families import BACKUP, EFFECT
from circuit_claims.discovery.survey import FIRST, Survey
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Samples

N = 960


def sweep(means: list[float], spread: list[float], *, weights: bool = False, by_cell: bool = True) -> tuple[Measurement, list]:
    """A sweep of one row of cells on made-up prompts, and what was asked of it: (prompts, effects of cells on prompts)."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(N, len(means)))
    values = (np.array(means) + np.array(spread) * (noise - noise.mean(0)))[:, None, :]
    whole = random.uniform(1, 3, size=N) if weights else None
    values = values if whole is None else values * whole[:, None, None]
    asked = []

    def take(n, cells=None):
        counts = np.full((1, len(means)), n) if cells is None else np.minimum(cells, n)
        asked.append((n, int(counts.sum())))
        measured = np.arange(n)[:, None, None] < counts
        values_there, of_whole = np.where(measured, values[:n], np.nan), None if whole is None else whole[:n]
        clusters, some = [i % 15 for i in range(n)], None if (counts == n).all() else counts
        return Grid(values_there, "x", "share", clusters, of_whole, counts=some)

    return Measurement(take, prepend_bos=False, cells=(1, len(means)) if by_cell else None), asked


def test_looks_double_and_end_with_all_prompts():
    assert looks(60, 960) == [60, 120, 240, 480, 960] and looks(60, 100) == [60, 100]
    assert looks(60, 60) == looks(90, 60) == [60]


def test_cells_far_from_the_threshold_are_measured_on_few_prompts_and_those_at_it_on_all():
    found, asked = sweep([0.0, 0.3, 0.0505, 0.0495], [0.02] * 4)
    grid = cells_told(found, looks(60, N), [0.05], np.ones((1, 4), dtype=bool))
    assert grid.counts is not None and grid.counts.tolist() == [[60, 60, N, N]]
    assert (grid.estimate > 0.05).tolist() == [[False, True, True, False]], "as all prompts have it"
    assert asked[-1] == (N, 2 * 60 + 2 * N)


def test_of_cells_that_do_not_matter_nothing_more_is_measured():
    found, asked = sweep([0.05, 0.0], [0.02, 0.02])
    cells_told(found, looks(60, N), [0.05], np.array([[False, True]]))
    assert asked == [(60, 120)]


def test_a_sweep_that_is_measured_whole_has_all_cells_on_as_many_prompts_as_the_last_needs():
    found, asked = sweep([0.0, 0.05], [0.02, 0.02], by_cell=False)
    grid = cells_told(found, looks(60, N), [0.05], np.ones((1, 2), dtype=bool))
    assert grid.counts is None and grid.n == N and [n for n, _ in asked] == looks(60, N)


@pytest.mark.parametrize("thresholds", [[0.5, 0.05, -0.05], [np.array([[0.05, 0.9]])]])
def test_every_threshold_counts_and_each_cell_may_have_its_own(thresholds):
    found, _ = sweep([0.05, 0.0], [0.02, 0.02])
    grid = cells_told(found, looks(60, N), thresholds, np.ones((1, 2), dtype=bool))
    assert grid.counts is not None and grid.counts.tolist() == [[N, 60]]


@pytest.mark.parametrize("weights", [False, True])
def test_of_a_thousand_cells_few_lie_on_another_side_than_all_prompts_put_them(weights):
    """Cells at all distances from the threshold; what decides is where all N prompts put them."""
    means = np.random.default_rng(1).uniform(-0.1, 0.2, 1000)
    found, _ = sweep(means.tolist(), [0.15] * 1000, weights=weights)
    grid = cells_told(found, looks(60, N), [0.05], np.ones((1, 1000), dtype=bool))
    of_all = found.take(N).estimate
    assert ((grid.estimate > 0.05) != (of_all > 0.05)).sum() <= 3
    assert grid.effects < 0.6 * of_all.size * N, "and many effects were not measured"


def test_a_value_is_told_to_within_its_tolerance_nineteen_times_in_twenty():
    """Of the mean of N prompts: the first n are off by more than `off_by` says in about 4.6 % of samples (two-sided, 2 sd)."""
    random, missed = np.random.default_rng(2), 0
    for _ in range(2000):
        values = random.normal(size=N)
        samples = Samples(values[:120], "x", "share", range(120))
        missed += abs(values[:120].mean() - values.mean()) > off_by(samples, N)
    assert 0.03 < missed / 2000 < 0.065


def test_a_ratio_of_means_is_told_by_what_is_left_of_each_prompt():
    whole = np.random.default_rng(3).uniform(1, 5, N)
    share = Samples(0.5 * whole, "x", "share", range(N), whole)
    assert off_by(share, 2 * N) < 1e-12 < off_by(Samples(0.5 * whole, "x", "share", range(N)), 2 * N)


def test_all_prompts_are_off_by_nothing():
    assert off_by(Samples(np.arange(60.0), "x", "share", range(60)), 60) == 0


def test_the_difference_of_sweeps_is_that_of_each_cell_on_as_many_prompts_as_it_is_wanted_on():
    one, other = sweep([0.1, 0.2], [0.01] * 2)[0], sweep([0.3, 0.5], [0.02] * 2)[0]
    np.testing.assert_allclose(minus(other, one).take(N).estimate, [[0.2, 0.3]])
    counts = np.array([[60, 120]])
    assert minus(other, one).take(120, counts).counts.tolist() == [[60, 120]]


# With a model.


def test_attention_from_role_to_role_is_that_of_each_pair_by_itself(mini):
    ioi = Survey.of(mini, n=30, seed=0, prepend_bos=False).ioi
    pairs = [("END", "IO"), ("S2", "S1+1"), ("END", "S1")]
    found = ioi.attention_sweeps(pairs).take(30)
    each = [ioi.attention_sweep(of=of, to=to).take(30).values for of, to in pairs]
    np.testing.assert_array_equal(found.values, np.concatenate(each, axis=2))
    assert found.column_labels[9] == "H1 S2 to S1+1"


@pytest.fixture(scope="module")
def few(mini) -> Survey:
    return Survey.of(mini, n=240, seed=0, prepend_bos=False, first=60)


@pytest.fixture(scope="module")
def all_of_them(mini) -> Survey:
    return Survey.of(mini, n=240, seed=0, prepend_bos=False)


def test_a_small_model_is_measured_on_all_prompts_and_another_is_looked_at_first(mini, monkeypatch):
    assert Survey.of(mini, n=240, seed=0, prepend_bos=False).first == 240
    assert Survey.of(mini, n=240, seed=0, prepend_bos=False).up_to() == "240"
    monkeypatch.setattr(mini, "n_parameters", 10**8)
    large = Survey.of(mini, n=240, seed=0, prepend_bos=False)
    assert large.first == FIRST and (large.up_to(), large.up_to(50)) == ("up to 240", "50"), "a card says so"
    assert Survey.of(mini, n=30, seed=0, prepend_bos=False).first == 30


def test_what_a_survey_of_few_prompts_says_is_what_all_of_them_say(few, all_of_them):
    """Sides of thresholds are the same, and values within their tolerance."""
    assert few.logit_difference == pytest.approx(all_of_them.logit_difference, rel=0.1) and few.shows_the_task
    sweeps = [(task, task.ioi.path_sweep()) for task in (few, all_of_them)]
    beyond, every = (task.beyond(swept, EFFECT, -EFFECT) for task, swept in sweeps)
    assert ((beyond > EFFECT) == (every > EFFECT)).all() and ((beyond < -EFFECT) == (every < -EFFECT)).all()
    assert np.abs(beyond - every).max() > 0, "though most cells are measured on fewer prompts"
    for tolerance in (0.02, 0.5, 2.0):
        values = [task.estimate(task.ioi.changed("ABC").logit_difference(), tolerance) for task in (few, all_of_them)]
        assert abs(values[0] - values[1]) <= tolerance


def test_knock_outs_are_measured_together_and_each_on_enough_prompts(few, all_of_them):
    settings = [few.ioi.ablate([Head(0, 4)]), few.ioi.ablate([Head(0, 0)])]
    loose, tight = few.knocked_out(settings, np.inf), few.knocked_out(settings, 0.0)
    assert [measured.limit for measured in loose] == [60, 60] and [measured.limit for measured in tight] == [240, 240]
    every = [all_of_them.estimate(setting.value()) for setting in settings]
    np.testing.assert_allclose([few.estimate(measured) for measured in tight], every, rtol=1e-5)
    first = [setting.value().take(60).estimate for setting in settings]
    np.testing.assert_allclose([few.estimate(measured) for measured in loose], first, rtol=1e-5)
    whole = few.ioi.logit_difference().take(60).estimate
    np.testing.assert_allclose(few.lost(settings, np.inf), [1 - left / whole for left in first], rtol=1e-4, atol=1e-5)


def test_the_families_of_few_prompts_are_those_of_all(few, all_of_them):
    """And a head's numbers are those of few prompts, except where they decide."""
    found, every = (family_search.find(survey, lambda _: None) for survey in (few, all_of_them))
    assert {name: (family.heads, family.note[:10]) for name, family in found.items()} == {
        name: (family.heads, family.note[:10]) for name, family in every.items()
    }
    assert found["name mover"].evidence != every["name mover"].evidence and len(found) > 5
    scores, of_all = (family_search.scores_so_far(survey) for survey in (few, all_of_them))
    grown, of_all_grown = (each.direct_without - each.direct > BACKUP for each in (scores, of_all))
    assert (grown == of_all_grown).all() and 0 < grown.sum() < grown.size


OF_FAMILIES = {"name movers", "negative name movers", "S-inhibition", "backups", "knock-outs of families"}
OF_FAMILIES |= {"early heads on random tokens", *tables.PARTS}


def test_what_is_asked_of_families_that_were_not_found_is_not_measured(few):
    blank = Card("mini", "mini", ("mini",), 4, 8, families={}, values={})
    assert few.shows_the_task
    before = forward_passes.total()
    for name, part in search.PARTS.items():
        if name in OF_FAMILIES:
            found = part(few, blank)
            assert not found.values and not found.tables, name
    assert forward_passes.total() == before
    assert search.PARTS["MLPs"](few, blank).values, "while what needs no family is measured"
    assert forward_passes.total() > before
