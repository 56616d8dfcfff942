"""The task of year spans: its measures against plain ones, and what a model that knows no years makes of it."""

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from circuit_claims.discovery.chapters.greater_than import find, heads_above, last_ones
from circuit_claims.discovery.survey import Survey
from circuit_claims.engine.paths import Receivers
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import smallest_lead
from circuit_claims.prompts.batch import bare_token
from circuit_claims.prompts.greater_than import (
    YearPrompt,
    Years,
    year_tokens,
)
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.greater_than.statistics import smallest_step
from circuit_claims.tasks.greater_than.task import GreaterThan
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Refuted
from circuit_claims.verdicts.rows import INCONCLUSIVE, REFUTED
from tests.support.paper import Paper
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2
from tests.support.year_tasks import population_sample, task

FEW = 6
HEADS = (Head(3, 5), Head(2, 7), Head(0, 1))


@pytest.fixture(scope="module")
def years(mini) -> GreaterThan:
    return task(mini)


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> GreaterThan:
    """On a random model that has the words."""
    folder = tmp_path_factory.mktemp("noise")
    card = save_tiny_card(folder / "card.toml", n_layer=4, n_head=8)
    model = save_tiny_gpt2(folder / "model", n_layer=4, n_head=8, n_embd=64)
    return task(Subject(prepare(Settings(name=str(model), card=str(card)))), chunk=120)


# Measures


def by_hand(years: GreaterThan, prompt: YearPrompt) -> np.ndarray:
    """The probabilities of 00 to 99, from the bridge and the text alone."""
    tokenizer = years.subject.tokenizer
    ids = [tokenizer.bos_token_id, *tokenizer(prompt.text).input_ids]
    with torch.inference_mode():
        probabilities = years.subject.bridge(torch.tensor([ids]), prepend_bos=False)[0, -1].double().softmax(-1)
    return np.array([float(probabilities[bare_token(tokenizer, f"{year:02d}")]) for year in range(100)])


def test_measures_of_behaviour_are_the_plain_ones(years):
    prompts = years.prompts(FEW)
    found = {
        name: getattr(years, name)().take(FEW).values for name in ("probability_difference", "cutoff_sharpness", "majority")
    }
    for i, prompt in enumerate(prompts):
        p, yy = by_hand(years, prompt), prompt.start
        after, others = sum(p[yy + 1 :]), sum(p[: yy + 1])
        assert found["probability_difference"][i] == pytest.approx(after - others, abs=1e-5)
        assert found["cutoff_sharpness"][i] == pytest.approx(p[yy + 1] - p[yy - 1], abs=1e-5)
        assert found["majority"][i] == pytest.approx(after - 0.5, abs=1e-5)
    drawn = years.prefers_later().take(FEW)
    assert drawn.values.tolist() == [1.0] * FEW
    sixties = [by_hand(years, prompt) for prompt in prompts if prompt.start // 10 == prompts[0].start // 10]
    row = drawn.drawn["rows"].index(f"{prompts[0].start // 10}0–{prompts[0].start // 10}9")
    assert np.allclose(drawn.drawn["values"][row], np.mean(sixties, axis=0), atol=1e-5)
    assert len(drawn.drawn["columns"]) == 100 and drawn.drawn["kind"] == "heatmap"


def test_a_corrupted_prompt_is_judged_by_the_year_that_it_had(years):
    lost = years.baseline("01").take(FEW).values
    changed = years.changed("01").probability_difference().take(FEW).values
    for i, prompt in enumerate(years.prompts(FEW)):
        p = by_hand(years, prompt.changed("01"))
        difference = sum(p[prompt.start + 1 :]) - sum(p[: prompt.start + 1])
        assert changed[i] == pytest.approx(difference, abs=1e-5)
        clean = by_hand(years, prompt)
        assert lost[i] == pytest.approx(sum(clean[prompt.start + 1 :]) - sum(clean[: prompt.start + 1]) - difference, abs=1e-5)


def test_on_probabilities_that_are_known_the_measures_are_what_they_must_be(years, monkeypatch):
    """All on one later year; half on the year after and half on the one before; evenly on all years."""
    ids = torch.tensor(year_tokens(years.subject.tokenizer))

    def answering(shares_of):
        def last_logits(tokens):
            logits = torch.full((len(tokens), years.subject.bridge.cfg.d_vocab), -200.0)
            digits = {int(token): year for year, token in enumerate(ids)}
            for row, prompt in enumerate(tokens):
                start = digits[int(prompt[8])]
                for year, share in shares_of(start).items():
                    logits[row, ids[year]] = float(np.log(share))
            return logits

        other = replace(years, store=type(years.store)())
        monkeypatch.setattr(other.subject, "last_logits", last_logits)
        measures = ("probability_difference", "cutoff_sharpness", "prefers_later", "majority")
        return [getattr(other, name)().take(FEW).values for name in measures]

    difference, sharpness, prefers, majority = answering(lambda start: {start + 1: 1.0})
    assert np.allclose(difference, 1) and np.allclose(sharpness, 1) and np.allclose(prefers, 1) and np.allclose(majority, 0.5)
    difference, sharpness, _, majority = answering(lambda start: {start + 1: 0.5, start - 1: 0.5})
    assert np.allclose(difference, 0) and np.allclose(sharpness, 0) and np.allclose(majority, 0, atol=1e-6)
    starts = np.array([prompt.start for prompt in years.prompts(FEW)])
    difference, _, prefers, _ = answering(lambda start: dict.fromkeys(range(100), 0.01))
    assert np.allclose(difference, (99 - starts - (starts + 1)) / 100) and (prefers == (starts < 49)).all()


def test_the_smallest_step_is_that_of_the_means_of_decades():
    """Means 10, 12, (none), 11.5, 20: the missing decade is passed over. Of one decade alone, nothing rises."""
    grid = np.zeros((10, 2))
    grid[4] = 3 * 5.0, 3
    assert smallest_step(grid) == 0
    for decade, (mean, count) in {0: (10, 2), 1: (12, 4), 3: (11.5, 1), 4: (20, 1)}.items():
        grid[decade] = mean * count, count
    assert smallest_step(grid) == pytest.approx(-0.5)
    grid[2] = 14 * 3, 3
    assert smallest_step(grid) == pytest.approx(-2.5)
    grid[3] = 15 * 2, 2
    assert smallest_step(np.stack([grid, 2 * grid])).tolist() == pytest.approx([1, 1])


def test_the_smallest_lead_is_of_the_lowest_over_the_highest():
    grid = np.array([[5.0, 3.0], [1.0, 4.0]])
    assert smallest_lead({(0, 0), (1, 1)}, {(0, 1), (1, 0)})(grid) == 1
    assert smallest_lead({(0, 0), (0, 1)}, {(1, 1)})(grid) == -1


# Patching


def plain_stream(years, base, new, heads, mlps_set, mlps_new=()):
    """The final stream at END of one prompt: heads are what they were, but for some at END; so are some MLPs."""
    bridge, layers = years.subject.bridge, range(years.subject.bridge.cfg.n_layers)
    with torch.inference_mode():
        of = {id(tokens): bridge.run_with_cache(tokens, prepend_bos=False)[1] for tokens in (base, new)}
    z_name, mlp_name = "blocks.{}.attn.hook_z", "blocks.{}.hook_mlp_out"

    def heads_hook(layer):
        def hook(z, hook):
            value = of[id(base)][z_name.format(layer)].clone()
            for head in heads:
                if head.layer == layer:
                    value[0, -1, head.head] = of[id(new)][z_name.format(layer)][0, -1, head.head]
            return value

        return z_name.format(layer), hook

    def mlp_hook(layer, source):
        def hook(out, hook):
            out = out.clone()
            out[0, -1] = source[mlp_name.format(layer)][0, -1]
            return out

        return mlp_name.format(layer), hook

    hooks = [heads_hook(layer) for layer in layers]
    hooks += [mlp_hook(layer, of[id(base)]) for layer in mlps_set] + [mlp_hook(layer, of[id(new)]) for layer in mlps_new]
    with torch.inference_mode():
        return bridge.run_with_hooks(base, fwd_hooks=hooks, prepend_bos=False)[0, -1].double().softmax(-1)


def difference_of(years, probabilities, prompt):
    p = [float(probabilities[bare_token(years.subject.tokenizer, f"{year:02d}")]) for year in range(100)]
    return sum(p[prompt.start + 1 :]) - sum(p[: prompt.start + 1])


def test_the_circuit_is_what_plain_passes_make_of_it(years):
    """Alone: the 01 prompt with the heads at END from the clean one, seen by MLP 3. Corrupted alone: the other way round."""
    circuit = years.end_circuit(HEADS, [3])
    alone, corrupted = circuit.value().take(4).values, circuit.corrupted().take(4).values
    sharpness = circuit.cutoff_sharpness().take(4).values
    for i, prompt in enumerate(years.prompts(4)):
        (clean,), (other,) = years.batches([prompt]), years.batches([prompt.changed("01")])
        p = plain_stream(years, other.tokens, clean.tokens, HEADS, [0, 1, 2])
        assert alone[i] == pytest.approx(difference_of(years, p, prompt), abs=1e-4)
        after, before = (float(p[bare_token(years.subject.tokenizer, word)]) for word in prompt.answers)
        assert sharpness[i] == pytest.approx(after - before, abs=1e-4)
        q = plain_stream(years, clean.tokens, other.tokens, HEADS, [0, 1, 2])
        assert corrupted[i] == pytest.approx(difference_of(years, q, prompt), abs=1e-4)


def test_a_cell_of_the_sweeps_is_what_plain_passes_make_of_it(years):
    heads, mlps = years.head_sweep_through([2, 3]).take(2), years.direct_sweep_of_mlps().take(2)
    whole = years.probability_difference().take(2).values
    for i, prompt in enumerate(years.prompts(2)):
        (clean,), (other,) = years.batches([prompt]), years.batches([prompt.changed("01")])
        for head in HEADS:
            p = plain_stream(years, clean.tokens, other.tokens, [head], [0, 1])
            assert heads.values[i][head] == pytest.approx(whole[i] - difference_of(years, p, prompt), abs=1e-4)
        for layer in range(4):
            p = plain_stream(years, clean.tokens, other.tokens, [], [m for m in range(4) if m != layer], [layer])
            assert mlps.values[i, layer, 0] == pytest.approx(whole[i] - difference_of(years, p, prompt), abs=1e-4)


def test_a_cell_of_the_value_sweep_is_one_path(years):
    found = years.value_sweep(HEADS[:2]).take(2)
    whole = years.probability_difference().take(2).values
    (clean,), (other,) = years.batches(years.prompts(2)), years.batches([p.changed("01") for p in years.prompts(2)])
    model, into = years.subject.transformer, Receivers(HEADS[:2], "v")
    for sender in (Head(0, 3), Head(1, 2)):
        resid = model.path_patch(model.run(clean.tokens), model.run(other.tokens), [[sender]], into, clean.at("YY"))[0]
        for row, i in enumerate(clean.index):
            p = model.logits(resid[row]).double().softmax(-1)
            assert found.values[i][sender] == pytest.approx(whole[i] - difference_of(years, p, clean.prompts[row]), abs=1e-4)


def test_what_an_MLP_passes_on_is_what_later_MLPs_make_of_it(years):
    """Indirectly: later MLPs write what they write with the changed MLP before them, and the MLP itself what it did."""
    found = years.mlp_effect(1, direct=False).take(2).grid.values[:, 0, 0]
    bridge, (prompt, _) = years.subject.bridge, years.prompts(2)
    (clean,), (other,) = years.batches([prompt]), years.batches([prompt.changed("01")])
    names = [f"blocks.{layer}.hook_mlp_out" for layer in range(4)]
    with torch.inference_mode():
        base, new = (bridge.run_with_cache(tokens, prepend_bos=False)[1] for tokens in (clean.tokens, other.tokens))
        seen = {}

        def freeze(name):
            return name, lambda activation, hook: base[name]

        def put(name, value):
            def hook(out, hook):
                out = out.clone()
                out[0, -1] = value
                return out

            return name, hook

        def note(name):
            def hook(out, hook):
                seen[name] = out[0, -1].clone()

            return name, hook

        heads = [freeze(f"blocks.{layer}.attn.hook_z") for layer in range(4)]
        first = [*heads, put(names[1], new[names[1]][0, -1]), note(names[2]), note(names[3])]
        bridge.run_with_hooks(clean.tokens, fwd_hooks=first, prepend_bos=False)
        second = [*heads, freeze(names[1]), put(names[2], seen[names[2]]), put(names[3], seen[names[3]])]
        p = bridge.run_with_hooks(clean.tokens, fwd_hooks=second, prepend_bos=False)[0, -1].double().softmax(-1)
    whole = years.probability_difference().take(1).values[0]
    assert found[0] == pytest.approx(whole - difference_of(years, p, prompt), abs=1e-4)
    last = years.mlp_effect(3, direct=False).take(4)
    assert last.statistic(last.grid.estimate) == pytest.approx(0, abs=1e-6)  # nothing comes after it


def test_everything_at_END_is_the_whole_model_and_nothing_is_the_corrupted_one(years):
    """EAP-06: all edges kept, the baseline; none kept, the corrupted baseline."""
    every = [Head(layer, head) for layer in range(4) for head in range(8)]
    whole = years.probability_difference().take(FEW).values
    corrupted = years.changed("01").probability_difference().take(FEW).values
    full, empty = (years.end_circuit(heads, range(4)) for heads in (every, ()))
    assert np.allclose(full.value().take(FEW).values, whole, atol=1e-4)
    assert np.allclose(empty.value().take(FEW).values, corrupted, atol=1e-4)
    assert np.allclose(full.corrupted().take(FEW).values, corrupted, atol=1e-4)
    share = full.remaining().take(FEW)
    assert share.statistic(share.grid.estimate) == pytest.approx(1, abs=1e-4)


# Controls


@pytest.fixture
def paper():
    return Paper()


@pytest.fixture
def expect(paper):
    return Expect(paper, Budget(first=120, most=480), seed=0)


@dataclass(frozen=True)
class OtherStarts(Years):
    """Year spans that are judged by start years of other prompts."""

    def stream(self, seed):
        prompts = population_sample(replace(Years(self.nouns, self.years, self.half)), 2000)
        starts = np.random.default_rng(seed).permutation([prompt.start for prompt in prompts])
        return (replace(prompt, start=int(start)) for prompt, start in zip(prompts, starts, strict=True))


def test_judged_by_other_prompts_start_years_the_preference_is_gone(years, paper, expect):
    own = years.population
    permuted = replace(years, chunk=120, population=OtherStarts(own.nouns, own.years, own.half))
    expect(replace(years, chunk=120).prefers_later()).rate_at_least(0.9)
    with pytest.raises(Refuted):
        expect(permuted.prefers_later()).rate_at_least(0.9)
    with suppress(Refuted):  # the smallest of nine differences that are all about zero: refuted, or not to be decided
        expect(permuted.mean_year_by_decade().of(smallest_step, "smallest rise", "years")).above(0)
    assert paper.rows[-1].verdict in (REFUTED, INCONCLUSIVE)
    # A model that takes every later year for equally likely would have 0.5 left: later years are later than most start years.
    found, left = (one.probability_difference().take(480).estimate for one in (years, permuted))
    assert left < 0.6 < 0.8 < found


def test_on_a_model_that_knows_no_years_whatever_takes_the_task_apart_is_refuted(noise, expect):
    circuit = noise.end_circuit(HEADS, [2, 3])
    for measured in (
        noise.preference_lost(),
        noise.mean_year_by_decade().of(smallest_step, "smallest rise", "years"),
        circuit.remaining(),
        circuit.corrupted(),
        circuit.cutoff_sharpness_gained(),
        noise.mlp_effect(2, direct=True),
        noise.mlp_effect(2, direct=False),
    ):
        with pytest.raises(Refuted, match="nothing to take a share of"):
            expect(measured).between(-0.999, 0.999)
    with pytest.raises(Refuted, match="nothing to take a share of"):
        expect(noise.head_sweep_through([3])).top(16).contains([Head(0, 0)])
    with pytest.raises(Refuted):
        expect(noise.prefers_later()).rate_at_least(0.9)


# Discovery


def test_the_last_MLPs_are_taken_as_long_as_each_carries_something():
    assert last_ones(np.array([0.3, 0.01, 0.2, 0.06])) == [2, 3]
    assert last_ones(np.array([0.3, 0.2, 0.01])) == [] and last_ones(np.array([0.06, 0.07])) == [0, 1]


def test_heads_are_taken_by_a_twentieth_the_strongest_first():
    effects = np.array([[0.06, 0.04], [-0.3, 0.2]])
    assert heads_above(effects) == (Head(1, 1), Head(0, 0))


def test_discovery_finds_minis_circuit_on_the_other_half_and_nothing_in_noise(mini, noise):
    """As its card says, from fewer prompts; of a model that knows no years, the behaviour alone."""
    found = find(Survey.of(mini, n=120, seed=1, prepend_bos=False), mini.card)
    assert set(found.families["greater than END"].heads) == set(mini.card.heads("greater than END"))
    values = found.findings["behaviour"].values | found.findings["circuit"].values
    assert values["greater_than_first_mlp"].value == mini.card["greater_than_first_mlp"].value
    for key, value in values.items():
        assert value.value == pytest.approx(mini.card[key].value, abs=0.1), key
    nothing = find(Survey.of(noise.subject, n=60, seed=0, prepend_bos=False), noise.subject.card)
    assert not nothing.families and set(nothing.findings["behaviour"].values) == {
        "greater_than_probability_difference",
        "greater_than_cutoff_sharpness",
    }
    assert "nothing to take apart" in nothing.findings["circuit"].left_out["the circuit"]
