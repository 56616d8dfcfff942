"""Copy scores against a plain computation from the bridge's own weights and modules, word by word and head by head."""

import numpy as np
import pytest
import torch

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.copy_score import WORDS, Sign
from tests.support import plain_twins
from tests.support.plain_twins import all_heads, alone, plain_cache

N = 4
SIGNS: dict[Sign, int] = {"positive": 1, "negative": -1}


@pytest.fixture(scope="module", params=["processed", "raw"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    """Both kinds of weights: layer norms have gains and biases of their own, and values have biases, in raw ones alone."""
    subject = mini if request.param == "processed" else Subject(prepare(Settings(name="mini", mode="raw")))
    return plain_twins.task(subject, bos=request.param == "raw")


@pytest.fixture(scope="module")
def streams(ioi: IOI) -> list[tuple]:
    """Each prompt by itself, and its stream after block 0."""
    batches = [alone(ioi, prompt) for prompt in ioi.prompts(N)]
    return [(batch, plain_cache(ioi, batch)["blocks.1.hook_resid_pre"][0]) for batch in batches]


@torch.inference_mode()
def plain_hits(ioi: IOI, streams, head: Head, sign: Sign) -> np.ndarray:
    """The authors' check_copy_circuit, one word of one prompt at a time: `[prompt, word]`."""
    bridge = ioi.subject.bridge
    hits = np.zeros((N, len(WORDS)))
    for i, (batch, after_block_0) in enumerate(streams):
        for j, word in enumerate(WORDS):
            where = int(batch.positions[word][0])
            normed = bridge.blocks[head.layer].ln1(after_block_0[None, where : where + 1])[0, 0]
            value = normed @ bridge.W_V[head.layer][head.head] + bridge.b_V[head.layer][head.head]
            out = SIGNS[sign] * (value @ bridge.W_O[head.layer][head.head])
            logits = bridge.unembed(bridge.ln_final(out[None, None]))[0, 0]
            hits[i, j] = float(batch.tokens[0, where] in torch.topk(logits, 5).indices)
    return hits


@pytest.mark.parametrize("sign", SIGNS)
def test_the_sweep_is_the_plain_one(ioi, streams, sign):
    grid = ioi.copy_score_sweep(sign).take(N)
    expected = {head: plain_hits(ioi, streams, head, sign).mean(1) for head in all_heads(ioi)}
    for head, scores in expected.items():
        assert grid.values[(slice(None), *head)] == pytest.approx(scores), str(head)
    if sign == "positive":
        means = [scores.mean() for scores in expected.values()]
        assert min(means) == 0 and max(means) > 0.5, "heads that copy and heads that do not"
        assert any(0 < mean < 1 for mean in means), "and some that copy some words"


@pytest.mark.parametrize("sign", SIGNS)
def test_a_heads_own_score_counts_each_word_by_itself(ioi, streams, sign):
    """Pooled over IO, S1 and S2: three times as many words as prompts, each in its prompt's cluster, and beside its prompt."""
    grid = ioi.copy_score_sweep(sign).take(N)
    templates = [prompt.template for prompt in ioi.prompts(N)]
    in_between = min(all_heads(ioi), key=lambda head: abs(grid.estimate[head] - 0.5))
    for head in (in_between, Head(*np.unravel_index(grid.estimate.argmax(), grid.estimate.shape))):
        samples = ioi.copy_score(head, sign).take(N)
        assert samples.values.tolist() == plain_hits(ioi, streams, head, sign).T.reshape(-1).tolist()
        assert samples.n == 3 * N and set(samples.values) <= {0.0, 1.0}
        assert list(samples.clusters) == 3 * templates
        assert list(samples.prompts) == 3 * list(ioi.prompts(N))
        assert samples.estimate == pytest.approx(grid.estimate[head])


def test_the_negative_score_turns_the_output_round(ioi):
    """A head that copies does not write against what it copies, and the two scores are measured apart."""
    positive, negative = (ioi.copy_score_sweep(sign).take(N).estimate for sign in SIGNS)
    best = Head(*np.unravel_index(positive.argmax(), positive.shape))
    assert negative[best] == 0 < positive[best]
    assert ioi.copy_score(best, "negative").take(N).estimate == 0 < ioi.copy_score(best).take(N).estimate
    assert "negative" in ioi.copy_score(best, "negative").take(1).quantity


def test_heads_that_write_the_opposite_have_the_opposite_score(mini, monkeypatch):
    """The embedded model has no negative name movers, so they are made here: with W_O turned round, the two scores swap."""
    before, turned = (plain_twins.task(mini, bos=False) for _ in range(2))
    scores = {sign: before.copy_score_sweep(sign).take(N).values for sign in SIGNS}
    straight = Transformer.head_out
    monkeypatch.setattr(Transformer, "head_out", lambda self, layer, z, head: -straight(self, layer, z, head))
    assert (turned.copy_score_sweep("negative").take(N).values == scores["positive"]).all()
    assert (turned.copy_score_sweep("positive").take(N).values == scores["negative"]).all()
    assert scores["positive"].max() > 0.5


def made_up_logits(rivals: int, monkeypatch, higher: int = 0):
    """Logits in which, whatever the head, a word ties with `rivals` others, below `higher` ones."""

    def logits(self, resid):
        vocabulary = self.W_U.shape[1]
        row = torch.zeros(vocabulary, dtype=resid.dtype)
        tied = self.tied  # the word's own token, then its rivals
        row[[token for token in range(vocabulary) if token not in tied][:higher]] = 2.0
        row[tied[: rivals + 1]] = 1.0
        return row.expand(*resid.shape[:-1], vocabulary)

    monkeypatch.setattr(Transformer, "logits", logits)


@pytest.mark.parametrize(
    ("rivals", "higher", "hit"), [(0, 0, 1), (4, 0, 1), (5, 0, 0), (3, 1, 1), (4, 1, 0), (0, 4, 1), (0, 5, 0), (1, 4, 0)]
)
def test_ties_cannot_inflate_a_score(mini, monkeypatch, rivals, higher, hit):
    """A word is among the five highest where it is so however ties are broken."""
    ioi = plain_twins.task(mini, bos=False)
    batch = alone(ioi, ioi.prompts(1)[0])
    own = int(batch.tokens[0, batch.positions["IO"][0]])
    tied = [own, *(token for token in range(600, 610) if token != own)]
    monkeypatch.setattr(Transformer, "tied", tied, raising=False)
    made_up_logits(rivals, monkeypatch, higher)
    copied = next(ioi._copied(batch, [Head(3, 0)], ["IO"], "positive"))
    assert copied.tolist() == [[bool(hit)]]


def test_a_head_that_writes_nothing_copies_nothing(mini, monkeypatch):
    """All logits are alike then: every word would be among the five highest if a tie counted for it."""
    ioi = plain_twins.task(mini, bos=False)
    monkeypatch.setattr(Transformer, "logits", lambda self, resid: torch.zeros(*resid.shape[:-1], self.W_U.shape[1]))
    for sign in SIGNS:
        assert ioi.copy_score(Head(3, 0), sign).take(N).estimate == 0
        assert (ioi.copy_score_sweep(sign).take(N).values == 0).all()
