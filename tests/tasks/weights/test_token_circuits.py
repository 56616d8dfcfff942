"""Circuits from token to token against loops over the bridge's own modules, on heads whose truth is known, and on noise."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from circuit_claims.discovery.chapters import copy_suppression
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import lead_over_the_median
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.copy_suppression.task import SAMPLED, TokenCircuits
from circuit_claims.tasks.copy_suppression.token_circuits import (
    CIRCUITS,
    TokenMatrix,
    all_heads,
    effective_embedding,
    token_matrix,
    unembedding,
)
from circuit_claims.untested import Untested
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Refuted
from tests.support.other_architectures import load, save_tiny_decoder
from tests.support.paper import Paper
from tests.support.planted_tokens import HEADS, KNOWN, LAYERS, save_with_known_head
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

SIGN = {"OV": -1, "QK": 1}


def subject_of(folder: Path, *, mode: str = "processed", layers: int = LAYERS, heads: int = HEADS) -> Subject:
    card = save_tiny_card(folder.parent / f"{folder.name}.toml", n_layer=layers, n_head=heads)
    return Subject(prepare(Settings(name=str(folder), card=str(card), mode=mode)))


@pytest.fixture(scope="module", params=["processed", "raw"])
def noise(request, tmp_path_factory) -> tuple[TokenCircuits, Subject]:
    """A random model in either mode; and processed, as the bridge holds it, for the twin."""
    folder = save_tiny_gpt2(tmp_path_factory.mktemp("noise") / "noise", n_layer=2, n_head=4, n_embd=32)
    return TokenCircuits(subject_of(folder, mode=request.param), seed=0), subject_of(folder)


def known(folder: Path, **truth: float) -> TokenCircuits:
    return TokenCircuits(subject_of(save_with_known_head(folder / "known", **truth)), seed=0)


@torch.inference_mode()
def plain_embedding(bridge, token: int) -> torch.Tensor:
    """The notebook's `get_effective_embedding`, one token at a time, from the processed bridge's modules and weights."""
    before = bridge.W_E[token][None, None]
    normed = bridge.blocks[0].ln1(before)[0, 0]
    middle = before.clone()
    for head in range(bridge.cfg.n_heads):
        middle += normed @ bridge.W_V[0][head] @ bridge.W_O[0][head]
    return (middle + bridge.blocks[0].mlp(bridge.blocks[0].ln2(middle)))[0, 0]


@torch.inference_mode()
def plain_rank(bridge, embeddings: torch.Tensor, head: Head, circuit: str, token: int, asked: int) -> int:
    """The rank of one entry, by a loop over the vocabulary."""
    W_Q, W_K, W_V, W_O = (getattr(bridge, name)[head.layer][head.head] for name in ("W_Q", "W_K", "W_V", "W_O"))
    if circuit == "OV":
        row = [-float(embeddings[token] @ W_V @ W_O @ bridge.W_U[:, other]) for other in range(bridge.W_U.shape[1])]
    else:
        query = bridge.W_U[:, token] @ W_Q
        row = [float(query @ (embeddings[other] @ W_K)) for other in range(len(embeddings))]
    return sum(value >= row[asked] for value in row) - 1


def test_the_effective_embedding_is_the_plain_one(noise):
    circuits, processed = noise
    found = effective_embedding(circuits.model)
    for token in (0, 7, 127, 128, circuits.vocabulary - 1):
        plain = plain_embedding(processed.bridge, token)
        torch.testing.assert_close(found[token], plain - plain.mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_ranks_are_the_plain_ones(noise, circuit):
    """Whatever the mode that the model was loaded in: both fold and centre to the same weights."""
    circuits, processed = noise
    bridge, head = processed.bridge, Head(1, 3)
    embeddings = torch.stack([plain_embedding(bridge, token) for token in range(circuits.vocabulary)])
    tokens = torch.tensor([3, 600, 1200])
    others = torch.tensor([[3, 9], [600, 2], [1200, 1]])
    found = circuits.matrix(head, circuit).ranks(tokens, others)
    for row, token in enumerate(tokens.tolist()):
        for column in range(2):
            plain = plain_rank(bridge, embeddings, head, circuit, token, int(others[row, column]))
            assert abs(int(found[row, column]) - plain) <= 1, "neighbours may change places by rounding"
    assert (circuits.own_token(head, circuit).ranks[tokens, 0] == found[:, 0].numpy()).all()


@torch.inference_mode()
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_chunks_do_not_matter(noise, circuit):
    """Against the whole matrix at once, every entry compared with every other of its row."""
    circuits, _ = noise
    model = circuits.model
    matrix = token_matrix(model, Head(0, 1), circuit, effective_embedding(model), unembedding(model))
    whole = matrix.left @ matrix.right
    ranks = (whole >= whole.diagonal()[:, None]).sum(1) - 1
    found = torch.from_numpy(circuits.own_token(Head(0, 1), circuit).ranks[:, 0])
    assert (found - ranks).abs().max() <= 1 and (found == ranks).float().mean() > 0.99


def test_a_head_written_to_suppress_puts_every_token_first(tmp_path):
    circuits = known(tmp_path, writes=-1.0, looks=1.0)
    for circuit in CIRCUITS:
        own = circuits.own_token(KNOWN, circuit)
        assert own.among_first(1).estimate == 1.0, circuit
        assert own.mean_rank().estimate == own.beyond(0.05).estimate == 0.0
        assert own.median_rank().grid.estimate.item() == 0.0
        assert own.lead_over_another_token().estimate > 0.95
    others = np.delete(circuits.suppression_sweep().estimate, KNOWN.layer * HEADS + KNOWN.head)
    assert circuits.suppression_sweep().estimate[KNOWN] == 1.0 and others.max() < 0.2


@pytest.mark.parametrize("truth", [{"writes": 1.0, "looks": -1.0}, {"writes": 0.0, "looks": 0.0}], ids=["copies", "nothing"])
def test_a_head_that_copies_or_does_nothing_suppresses_nothing(tmp_path, truth):
    """One that does nothing ties all tokens: every own token would be first if a tie counted for it."""
    circuits = known(tmp_path, **truth)
    for circuit in CIRCUITS:
        own = circuits.own_token(KNOWN, circuit)
        assert own.among_first(10).estimate == 0.0 and own.beyond(0.9).estimate == 1.0, circuit
        assert own.lead_over_another_token().estimate <= 0.0
    assert circuits.suppression_sweep().estimate[KNOWN] == 0.0


def test_noise_is_refuted(noise):
    circuits, _ = noise
    expect = Expect(Paper(), Budget(60, 240), seed=0)
    for head in all_heads(circuits.model):
        for circuit in CIRCUITS:
            own = circuits.own_token(head, circuit)
            assert own.among_first().estimate < 0.2
            with pytest.raises(Refuted):
                expect(own.lead_over_another_token(), "made up").above(0.5)
            with pytest.raises(Refuted):
                expect(own.median_rank(), "made up").near(0, within=0)
        with pytest.raises(Refuted):
            expect(circuits.suppression_sweep().of(lead_over_the_median(head), "lead", "share"), "made up").above(0.5)


def test_another_token_is_never_the_own_one(noise):
    circuits, _ = noise
    own = circuits.own_token(Head(0, 0), "OV")
    assert own.ranks.shape == (circuits.vocabulary, 2)
    assert (own.ranks[:, 0] != own.ranks[:, 1]).all()
    again = TokenCircuits(circuits.subject, seed=1).own_token(Head(0, 0), "OV").ranks
    assert (again[:, 0] == own.ranks[:, 0]).all() and (again[:, 1] != own.ranks[:, 1]).any()


def test_rows_say_that_there_is_no_prompt_and_draw_the_ranks(noise):
    circuits, _ = noise
    paper = Paper()
    Expect(paper, Budget(60, 240), seed=0)(circuits.own_token(Head(1, 0), "QK").beyond(0.05), "made up").above(0.5)
    row = paper.rows[-1]
    assert row.prepend_bos is None and row.mode == "processed"
    assert row.n == circuits.vocabulary and row.ci_low == row.ci_high == row.observed
    itself, another = row.figure["curves"]
    assert len(itself["values"]) == len(another["values"]) == len(row.figure["x"])
    assert itself["values"] == sorted(itself["values"]) and 0 <= itself["values"][0] <= itself["values"][-1] <= 1


def test_the_sweep_samples_tokens_where_there_are_many(noise):
    circuits, _ = noise
    grid = circuits.suppression_sweep()
    assert grid.n == SAMPLED < circuits.vocabulary and not grid.exact
    for head in (Head(0, 0), Head(1, 3)):
        assert grid.estimate[head] == pytest.approx(circuits.own_token(head, "OV").among_first().estimate, abs=0.05)


def test_unknown_circuits_and_architectures_are_refused(noise, tmp_path):
    circuits, _ = noise
    with pytest.raises(ValueError, match="unknown circuit"):
        circuits.matrix(Head(0, 0), "OVQK")
    other = TokenCircuits(load(save_tiny_decoder(tmp_path / "model", "Llama"), "raw"), seed=0)
    with pytest.raises(Untested, match="lays them out, and model is of another architecture: take a subject of GPT-2's"):
        other.own_token(Head(0, 0), "OV").among_first()


def test_discovery_finds_the_head_that_suppresses_and_no_other(tmp_path, mini):
    survey: Any = SimpleNamespace(ioi=SimpleNamespace(subject=known(tmp_path, writes=-1.0, looks=1.0).subject, seed=0))
    chapter = copy_suppression.find(survey, survey.ioi.subject.card)
    assert chapter.families["copy suppression"].heads == (KNOWN,)
    (findings,) = chapter.findings.values()
    assert findings.values["OV_own_token_first"].value == findings.values["QK_own_token_among_ten"].value == 1.0
    of_mini: Any = SimpleNamespace(ioi=SimpleNamespace(subject=mini, seed=0))
    nothing = copy_suppression.find(of_mini, mini.card)
    assert not nothing.families and "no head" in nothing.findings["copy suppression"].left_out["copy suppression"]


def test_a_row_over_gpt2s_vocabulary_stays_affordable():
    """Noise of that size: the mean rank is half the vocabulary, and a thousand rows take about a second."""
    generator = torch.Generator().manual_seed(0)
    matrix = TokenMatrix(torch.randn(50257, 64, generator=generator), torch.randn(64, 50257, generator=generator))
    began = time.process_time()
    ranks = matrix.ranks(torch.arange(0, 50257, 49))[:, 0].double()
    assert float(ranks.mean()) == pytest.approx(50257 / 2, rel=0.05)
    assert time.process_time() - began < 10


@torch.inference_mode()
def test_full_copying_scores_are_the_eigenvalues_of_the_whole_matrix(noise):
    """Against the matrix from all tokens to all tokens, made of the processed bridge's weights."""
    circuits, processed = noise
    bridge, scores = processed.bridge, circuits.full_copying_sweep().estimate
    for head in ((0, 1), (1, 3)):
        OV = (bridge.W_V[head[0]][head[1]] @ bridge.W_O[head[0]][head[1]]).double()
        eigenvalues = np.linalg.eigvals((bridge.W_E.double() @ OV @ bridge.W_U.double()).numpy())
        assert scores[head] == pytest.approx(eigenvalues.sum().real / np.abs(eigenvalues).sum(), abs=1e-4)
        assert circuits.full_copying(Head(*head)).statistic(scores) == scores[head]
    assert np.abs(scores).max() < 1 and np.ptp(scores) > 0.01
