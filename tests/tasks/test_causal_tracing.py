"""Causal tracing against plain hooks, one cell at a time; identities on any weights; numbers read off its grids."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_claims.engine.edits import Edit
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.facts import FactList, FactPrompt
from circuit_claims.prompts.roles import LAST, SUBJECT, TRACED_PARTS, TRACED_ROLES
from circuit_claims.tasks.facts.task import Facts
from circuit_claims.tasks.operations import causal_tracing
from circuit_claims.tasks.operations.causal_tracing import DRAWS, METRICS, NOISE, SITES, _tokens_of_roles
from circuit_claims.tasks.operations.tracing_statistics import (
    agreement,
    early_site,
    handover,
    last_over_first,
    late_site,
    mlps_over_attention,
    peak_of_the_mlps,
)
from tests.support.fact_tasks import SOME, N, task

HOOKS = {"resid": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_attn_out"}


# Causal tracing.


def put(value: torch.Tensor, position: int):
    """A hook that sets one position of one prompt's activation."""

    def hook(activation, hook):
        activation = activation.clone()
        activation[0, position] = value
        return activation

    return hook


def plain_score(facts: Facts, prompt: FactPrompt, tokens: torch.Tensor, corruption: str, hooks=()) -> float:
    with torch.inference_mode():
        logits = facts.subject.bridge.run_with_hooks(tokens, fwd_hooks=list(hooks), prepend_bos=False)[0, -1]
    right, other = (facts.subject.tokenizer(" " + answer).input_ids[0] for answer in prompt.answers)
    return float(logits[right] - logits[other]) if corruption == "interchange" else float(logits.softmax(-1)[right])


def plain_trace(facts: Facts, prompt: FactPrompt, state: str, corruption: str, width: int) -> tuple[np.ndarray, float]:
    """Every state of one prompt restored by itself, `[layer, pos]`, and the total effect; one pass through hooks each."""
    tokenizer, bridge = facts.subject.tokenizer, facts.subject.bridge
    start = [tokenizer.bos_token_id] if facts.prepend_bos else []
    clean = torch.tensor([start + tokenizer(prompt.text).input_ids])
    if corruption == "interchange":
        corrupted = [(torch.tensor([start + tokenizer(prompt.changed("interchange").text).input_ids]), ())]
    else:
        (batch,) = facts.batches([prompt])
        noise = [facts._noise(batch, draw) for draw in range(causal_tracing.DRAWS)]
        added = [("blocks.0.hook_resid_pre", lambda x, hook, n=n: x + n) for n in noise]
        corrupted = [(clean, (hook,)) for hook in added]
    with torch.inference_mode():
        cache = bridge.run_with_cache(clean, prepend_bos=False)[1]
    layers, length = bridge.cfg.n_layers, clean.shape[1]
    effects, total = np.zeros((layers, length)), 0.0
    before = plain_score(facts, prompt, clean, corruption)
    for tokens, hooks in corrupted:
        base = plain_score(facts, prompt, tokens, corruption, hooks)
        total += (before - base) / len(corrupted)
        for layer in range(layers):
            window = [other for other in range(layers) if layer - width // 2 <= other < layer - width // 2 + width]
            names = [f"blocks.{other}.{HOOKS[state]}" for other in window]
            for position in range(length):
                restoring = [(name, put(cache[name][0, position], position)) for name in names]
                restored = plain_score(facts, prompt, tokens, corruption, [*hooks, *restoring])
                effects[layer, position] += (restored - base) / len(corrupted)
    return effects, total


def by_role(facts: Facts, prompt: FactPrompt, effects: np.ndarray) -> np.ndarray:
    """Averages over the tokens of each role, counted by hand: `[layer, role]`, zero for a role that the prompt has not."""
    tokenizer, start = facts.subject.tokenizer, int(facts.prepend_bos)
    ((_, begin, end),) = prompt.phrases
    before, subject = (len(tokenizer(text).input_ids) for text in (prompt.text[:begin], prompt.text[begin:end]))
    first, last, final = start + before, start + before + subject - 1, effects.shape[1] - 1
    tokens = {role: [] for role in TRACED_ROLES}
    for position in range(first, final + 1):
        if position == final:
            tokens["last token"].append(position)
        elif position > last:
            tokens["first subsequent token" if position == last + 1 else "further tokens"].append(position)
        elif position == last:
            tokens["last subject token"].append(position)
        else:
            tokens["first subject token" if position == first else "middle subject tokens"].append(position)
    return np.stack([effects[:, here].mean(1) if here else 0 * effects[:, 0] for here in tokens.values()], axis=1)


@pytest.mark.parametrize("corruption", METRICS)
@pytest.mark.parametrize("state", SITES)
def test_tracing_is_that_of_plain_hooks_one_state_at_a_time(mini, monkeypatch, state, corruption):
    monkeypatch.setattr(causal_tracing, "WINDOW", 24)  # two of four layers
    monkeypatch.setattr(causal_tracing, "DRAWS", 2)
    lengths = set()
    for bos in (False, True) if state == "resid" else (False,):
        facts = task(mini, bos=bos)
        taken = facts.trace(state, corruption=corruption).take(3)
        for i, prompt in enumerate(facts.prompts(3)):
            effects, total = plain_trace(facts, prompt, state, corruption, 1 if state == "resid" else 2)
            assert taken.values[i] == pytest.approx(by_role(facts, prompt, effects), abs=2e-4), prompt.text
            assert taken.weights[i] == pytest.approx(total, abs=2e-4)
            lengths.add(effects.shape[1])
        assert np.abs(taken.values).max() > 0.1
        assert facts.total_effect(corruption).take(3).values == pytest.approx(taken.weights, abs=1e-9)
    assert len(lengths) > 1


def test_parts_are_the_columns_of_the_full_traces(mini):
    facts = task(mini)
    for corruption in METRICS:
        parts = facts.trace_parts(corruption=corruption).take(N)
        traced = {state: facts.trace(state, corruption=corruption).take(N).values for state in ("mlp_out", "attn_out")}
        for name, role in ((TRACED_ROLES[role], role) for role in (SUBJECT, LAST)):
            for part, state in (("MLP", "mlp_out"), ("attention", "attn_out")):
                column = TRACED_PARTS.index(f"{part}, {name}")
                assert parts.values[:, :, column] == pytest.approx(traced[state][:, :, role], abs=1e-5)


def test_the_share_lost_and_what_is_left_are_the_total_effect(mini):
    facts = task(mini)
    for corruption in METRICS:
        total, left = (getattr(facts, name)(corruption).take(N) for name in ("total_effect", "corrupted"))
        lost = facts.share(corruption).take(N)
        assert lost.values == pytest.approx(total.values)
        assert lost.weights == pytest.approx(total.values + left.values)
        clean = [plain_score(facts, p, torch.tensor([mini.tokenizer(p.text).input_ids]), corruption) for p in facts.prompts(N)]
        assert lost.weights == pytest.approx(clean, abs=1e-4)
        assert lost.whole_unit == METRICS[corruption].unit


@pytest.mark.parametrize("corruption", METRICS)
def test_on_any_weights_END_after_the_last_layer_has_everything_and_all_else_nothing(random_subject, corruption):
    """An identity, on noise as well: so no claim may rest on the last layer."""
    taken = task(random_subject).trace(corruption=corruption).take(30)
    assert taken.values[:, -1, LAST] == pytest.approx(taken.weights, abs=1e-5)
    assert np.abs(np.delete(taken.values[:, -1], LAST, axis=1)).max() < 1e-5
    assert np.abs(taken.weights).max() > (1e-2 if corruption == "interchange" else 1e-4)


@pytest.mark.parametrize("corruption", METRICS)
def test_on_any_weights_restoring_everything_restores_the_prediction(random_subject, corruption):
    facts = task(random_subject)
    for batch in facts.batches(facts.prompts(8)):
        clean = facts._clean(batch)
        for run in facts._corrupted_runs(batch, corruption):
            everything = [[Edit(layer, "resid_post", clean.resid[layer + 1])] for layer in range(3)]
            restored = random_subject.transformer.intervene(run, everything)
            assert torch.allclose(restored, clean.resid[-1, :, -1].expand_as(restored), atol=1e-5)
            assert not torch.allclose(run.resid[-1, :, -1], clean.resid[-1, :, -1], atol=1e-2)


def test_a_subject_with_the_same_answer_changes_next_to_nothing(mini):
    """The control: the other subject's answer is the same, so there is hardly any effect that a state could restore."""
    facts, effects = task(mini), {}
    for partner in ("a chair", "a bottle"):
        prompts = [FactPrompt("material", i, "a table", ("wood", "glass"), partner) for i in range(4)]
        effects[partner] = np.concatenate([facts._traced(batch, "interchange", None)[1] for batch in facts.batches(prompts)])
    assert (effects["a bottle"] > 10).all()
    assert (np.abs(effects["a chair"]) < 0.2 * effects["a bottle"]).all()


def test_noise_is_three_times_as_wide_as_embeddings_are_spread_and_on_the_subject_alone(mini):
    facts = task(mini)
    prompts = facts.prompts(200)
    assert facts.on(relations=["capital"]).spread == facts.spread == task(mini, FactList()).spread, "one noise for all"
    ids = {i for p in prompts for i in mini.tokenizer((p.text[slice(*p.phrases[0][1:])]).lower()).input_ids}
    assert facts.spread == pytest.approx(float(mini.bridge.W_E[sorted(ids)].detach().std()), rel=0.1), "of subjects' tokens"
    drawn = []
    for batch in facts.batches(prompts):
        for draw in range(DRAWS):
            noise = facts._noise(batch, draw)
            first, last = (batch.positions[role] for role in ("first subject token", "last subject token"))
            at = torch.arange(noise.shape[1])
            subject = (first[:, None] <= at) & (at <= last[:, None])
            assert (noise[~subject] == 0).all() and (noise[subject] != 0).all()
            drawn.append(noise[subject])
    assert float(torch.cat(drawn).std()) == pytest.approx(NOISE * facts.spread, rel=0.02)
    assert len({float(part.sum()) for part in drawn}) == len(drawn), "every draw is another"
    (alone,) = facts.batches(prompts[:1])
    together = next(batch for batch in facts.batches(prompts) if batch.prompts[0] == prompts[0])
    assert torch.equal(facts._noise(alone, 1)[0], facts._noise(together, 1)[0])
    other = replace(facts, seed=1, store=SessionStore())
    assert not torch.equal(other._noise(alone, 1), facts._noise(alone, 1))


def test_both_corruptions_side_by_side_are_the_two_traces(mini):
    facts = task(mini, replace(SOME, known=True), chunk=60)
    both = facts.trace_both().take(20)
    parts = [facts.trace(corruption=corruption).take(20) for corruption in METRICS]
    assert both.values == pytest.approx(np.concatenate([part.values for part in parts], axis=2))
    assert both.denominator.values == pytest.approx(parts[1].weights)
    a, b = (part.shown(part.estimate) for part in parts)
    assert both.drawn["r"] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert {(point["x"], point["y"]) for point in both.drawn["points"]} == set(zip(a.ravel(), b.ravel(), strict=True))
    assert len(both.drawn["points"]) == 4 * len(TRACED_ROLES)


def test_a_role_is_averaged_over_the_prompts_that_have_it(mini):
    """Countries are one token, so a first subject token is there on materials that have an article alone."""
    facts = task(mini, chunk=60)
    taken = facts.trace(corruption="noise").take(60)
    batches = facts.batches(facts.prompts(60))
    having = sum(int((b.positions["first subject token"] < b.positions["last subject token"]).sum()) for b in batches)
    assert 0 < having < 60
    shown, column = taken.figure()["values"], TRACED_ROLES.index("first subject token")
    assert [row[column] for row in shown] == pytest.approx(taken.estimate[:, column] * 60 / having)
    assert [row[SUBJECT] for row in shown] == pytest.approx(taken.estimate[:, SUBJECT])


def test_tokens_have_the_roles_of_the_paper():
    positions = {"first subject token": [1, 2, 0], "last subject token": [3, 2, 1], "END": [6, 6, 6]}
    places = {role: torch.tensor(at) for role, at in positions.items()}
    batch = Batch((None,) * 3, torch.zeros(3, 7), places, torch.zeros(3, 2, dtype=torch.long), ())
    shares = _tokens_of_roles(batch)
    named = [[[int(p) for p in np.flatnonzero(role)] for role in prompt] for prompt in shares]
    assert named[0] == [[1], [2], [3], [4], [5], [6]]
    assert named[1] == [[], [], [2], [3], [4, 5], [6]]
    assert named[2] == [[0], [], [1], [2], [3, 4, 5], [6]]
    assert shares.sum(-1).tolist() == [[1] * 6, [0, 0, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1]]


# Numbers read off the grids.


def test_numbers_read_off_a_trace():
    grid = np.zeros((8, 6))
    grid[:, SUBJECT] = [0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.1, 0.0]
    grid[:, LAST] = [0.0, 0.0, 0.1, 0.1, 0.3, 0.5, 0.8, 1.0]
    grid[:, 0] = 0.25
    assert early_site(grid) == pytest.approx((0.9 + 0.8 + 0.6 + 0.5) / 4)
    assert late_site(grid) == pytest.approx((0.3 + 0.7) / 2), "L5 and L6: the last layer does not count"
    assert last_over_first(grid) == pytest.approx(0.75 - 0.25)
    assert handover(grid) == 5
    assert handover(np.zeros((8, 6))) == 8
    assert np.asarray(early_site(np.stack([grid, 2 * grid]))).shape == (2,)
    parts = np.zeros((8, 4))
    parts[2, 0], parts[5, 1], parts[7, 2], parts[1, 3] = 0.8, 0.4, 0.2, 0.6
    assert mlps_over_attention("last subject token")(parts) == pytest.approx(0.05)
    assert mlps_over_attention("last token")(parts) == pytest.approx(-0.05)
    assert peak_of_the_mlps(parts) == pytest.approx(2.5 / 8)
    assert late_site(np.eye(4, 6)[:, ::-1]) == pytest.approx(0), "of four layers, L2 alone is late"


def test_agreement_is_the_correlation_of_the_two_halves():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 5, 6))
    both = np.concatenate([a, b], axis=1)
    assert agreement(both) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert agreement(np.concatenate([a, 3 * a + 1], axis=1)) == pytest.approx(1)
    assert agreement(np.stack([both, np.zeros_like(both)]))[1] == 0, "of nothing at all"
