"""Attention and what heads write, against the bridge's own activations and weights, one prompt at a time."""

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.projections import correlation
from circuit_claims.tasks.ioi.task import IOI
from tests.support import plain_twins
from tests.support.plain_twins import all_heads, alone, mlp_name, plain_cache, plain_difference, z_name

N = 5
HEADS = [Head(2, 6), Head(3, 0), Head(3, 5)]


@pytest.fixture(scope="module", params=["processed", "raw"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    """Processed weights without BOS, and raw ones, whose final layer norm has gains and a bias of its own, with BOS."""
    subject = mini if request.param == "processed" else Subject(prepare(Settings(name="mini", mode="raw")))
    return plain_twins.task(subject, bos=request.param == "raw")


@pytest.fixture(scope="module")
def looks(ioi: IOI) -> list[tuple]:
    """Each prompt by itself, with all its activations."""
    batches = [alone(ioi, prompt) for prompt in ioi.prompts(N)]
    return [(batch, plain_cache(ioi, batch)) for batch in batches]


def attention(look, head: Head, of: str, to: str) -> float:
    batch, cache = look
    pattern = cache[f"blocks.{head.layer}.attn.hook_pattern"][0, head.head]
    return float(pattern[int(batch.positions[of][0]), int(batch.positions[to][0])])


@pytest.mark.parametrize(("of", "to", "over"), [("END", "IO", "S1"), ("END", "S2", "IO"), ("S2", "S1", "IO")])
def test_the_attention_difference_is_the_plain_one(ioi, looks, of, to, over):
    """Averaged over heads, prompt by prompt; in BABA, S1 stands before IO and may not be seen from everywhere."""
    expected = [np.mean([attention(x, head, of, to) - attention(x, head, of, over) for head in HEADS]) for x in looks]
    measured = ioi.attention_difference(HEADS, of=of, to=to, over=over).take(N)
    assert measured.values == pytest.approx(expected, abs=1e-5)
    turned = ioi.attention_difference(HEADS, of=of, to=over, over=to).take(N)
    assert turned.values == pytest.approx(-measured.values, abs=1e-6)
    assert np.abs(measured.values).max() > 1e-3


def test_the_mean_preference_is_the_mean_of_each_heads_own(ioi, looks):
    """Each head's own runner-up is its own: the mean of the differences, not the difference of the mean pattern."""

    def preference(look, head, to):
        batch, cache = look
        row = cache[f"blocks.{head.layer}.attn.hook_pattern"][0, head.head, -1]
        wanted = int(batch.positions[to][0])
        return float(row[wanted]) - max(float(p) for j, p in enumerate(row) if j not in (0, wanted))

    for to in ("IO", "S2"):
        expected = [np.mean([preference(look, head, to) for head in HEADS]) for look in looks]
        assert ioi.mean_preference(HEADS, to=to).take(N).values == pytest.approx(expected, abs=1e-5)
        single = ioi.mean_preference(HEADS[:1], to=to).take(N).values
        assert single == pytest.approx([preference(look, HEADS[0], to) for look in looks], abs=1e-5)


def out_at_end(ioi: IOI, look, head: Head) -> torch.Tensor:
    """What a head writes at END, with the bridge's own weights."""
    z = look[1][z_name(head.layer)][0, -1, head.head]
    return z @ ioi.subject.bridge.W_O[head.layer][head.head]


@torch.inference_mode()
def test_the_correlation_is_numpys_over_both_names_of_every_prompt(ioi, looks):
    """2n points: attention from END to IO and to S1, against the output's projection on that name's unembedding."""
    got = []
    for head in HEADS:
        x, y = [], []
        for look in looks:
            out, (io, s) = out_at_end(ioi, look, head), look[0].answers[0]
            for role, name in (("IO", io), ("S1", s)):
                x.append(attention(look, head, "END", role))
                y.append(float(out @ ioi.subject.bridge.W_U[:, name]))
        taken = ioi.attention_projection_correlation(head).take(N)
        got.append(float(taken.statistic(taken.grid.estimate)))
        assert len(x) == 2 * N
        assert got[-1] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-4)
        # With the names' projections exchanged another number comes out.
        exchanged = [value for pair in zip(y[1::2], y[0::2], strict=True) for value in pair]
        assert abs(np.corrcoef(x, exchanged)[0, 1] - got[-1]) > 1e-2
    assert max(got) > 0.5 and min(got) < max(got) - 0.05, "heads of which it is more and less true"


def test_the_correlation_from_moments_is_pearsons():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(4, 30)), random.normal(size=(4, 30)) * [[1.0], [5.0], [0.1], [3.0]]
    y += x * [[0.0], [4.0], [-0.3], [1.0]]
    moments = np.stack([x, y, x * x, y * y, x * y], axis=-1).mean(1)[:, None, :]
    assert correlation(moments) == pytest.approx([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])
    flat = np.array([[0.5, 2.0, 0.25, 5.0, 1.0]])  # x is the same everywhere
    assert correlation(flat) == 0


@torch.inference_mode()
def test_what_a_head_writes_along_the_names_is_its_part_of_the_logit_difference(ioi, looks):
    """Taking the head's output out of the final stream, with the final layer norm's scale held, costs exactly this much."""
    bridge = ioi.subject.bridge
    gain, bias = bridge.ln_final.weight, bridge.ln_final.bias

    def difference(stream, scale, answers):
        logits = ((stream - stream.mean()) / scale * gain + bias) @ bridge.W_U
        return float(logits[answers[0]] - logits[answers[1]])

    for head in HEADS:
        expected = []
        for look in looks:
            stream, answers = look[1]["blocks.3.hook_resid_post"][0, -1], look[0].answers[0]
            scale = (stream.var(unbiased=False) + bridge.cfg.eps).sqrt()
            without = difference(stream - out_at_end(ioi, look, head), scale, answers)
            expected.append(difference(stream, scale, answers) - without)
        written = ioi.writing_along_names(head).take(N).values
        assert written == pytest.approx(expected, abs=1e-4)
        assert np.abs(written).max() > 1e-2


@torch.inference_mode()
def test_all_heads_mlps_embeddings_and_biases_sum_to_the_logit_difference(ioi, looks):
    bridge = ioi.subject.bridge
    heads = np.sum([ioi.writing_along_names(head).take(N).values for head in all_heads(ioi)], axis=0)
    for i, (batch, cache) in enumerate(looks):
        io, s = batch.answers[0]
        direction = bridge.W_U[:, io] - bridge.W_U[:, s]
        rest = [cache["hook_embed"][0, -1], cache["hook_pos_embed"][0, -1]]
        rest += [cache[mlp_name(layer)][0, -1] for layer in range(4)] + [bridge.b_O[layer] for layer in range(4)]
        stream = cache["blocks.3.hook_resid_post"][0, -1]
        scale = (stream.var(unbiased=False) + bridge.cfg.eps).sqrt()
        others = sum(float(((part - part.mean()) / scale * bridge.ln_final.weight) @ direction) for part in rest)
        constant = float(bridge.ln_final.bias @ direction)
        if bridge.b_U is not None:
            constant += float(bridge.b_U[io] - bridge.b_U[s])
        whole = plain_difference(ioi, batch)
        assert heads[i] + others + constant == pytest.approx(whole, abs=1e-3)
        assert ioi.logit_difference().take(N).values[i] == pytest.approx(whole, abs=1e-4)
        assert abs(heads[i] - whole) > 1e-2, "heads alone do not"
