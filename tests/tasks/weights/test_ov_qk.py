"""Copying scores, composition and attention by position: against slow plain twins, and where the answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.tasks.weights import composition
from circuit_claims.tasks.weights.attention_weights import AttentionWeights
from tests.support.tiny_weights import HEADS, LAYERS, POSITIONS, WIDTH, read, save_attention

D_HEAD = WIDTH // HEADS
READERS = ("q", "k", "v")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> AttentionWeights:
    return read(save_attention(tmp_path_factory.mktemp("attention")))


def with_head(weights: AttentionWeights, head: Head, **matrices: torch.Tensor) -> AttentionWeights:
    """The same weights with some matrices of one head in place of its own."""
    changed = {}
    for name, matrix in matrices.items():
        changed[name] = getattr(weights, name).clone()
        changed[name][head] = matrix
    return dataclasses.replace(weights, **changed)


def orthonormal(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64)).Q


# Copying scores.


def test_copying_scores_are_those_of_the_whole_matrices(weights):
    scores = composition.copying_scores(weights)
    for layer in range(LAYERS):
        for head in range(HEADS):
            eigenvalues = np.linalg.eigvals((weights.W_V[layer, head] @ weights.W_O[layer, head]).numpy())
            assert scores[layer, head] == pytest.approx(eigenvalues.sum().real / np.abs(eigenvalues).sum(), abs=1e-9)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (-1.0, -1.0), (0.0, 0.0)])
def test_a_head_that_copies_what_it_reads_scores_one_and_its_negative_minus_one(weights, sign, expected):
    frame = orthonormal(WIDTH, D_HEAD, 0)
    copying = with_head(weights, Head(1, 2), W_V=frame, W_O=sign * frame.mT)
    assert composition.copying_scores(copying)[1, 2] == pytest.approx(expected, abs=1e-9)


def test_a_head_that_writes_where_it_never_reads_has_a_score_all_the_same(weights):
    """All its eigenvalues are zero but for rounding: such heads are in every planted circuit."""
    frame = orthonormal(WIDTH, 2 * D_HEAD, 0)
    apart = with_head(weights, Head(0, 0), W_V=frame[:, :D_HEAD], W_O=frame[:, D_HEAD:].mT)
    assert -1 <= composition.copying_scores(apart)[0, 0] <= 1


def test_a_head_that_turns_what_it_reads_by_a_right_angle_scores_zero(weights):
    frame = orthonormal(WIDTH, D_HEAD, 0)
    quarter = torch.block_diag(*[torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)] * (D_HEAD // 2))
    assert composition.copying_scores(with_head(weights, Head(0, 0), W_V=frame, W_O=quarter @ frame.mT))[0, 0] == pytest.approx(
        0.0
    )


# Composition.


def chain(weights: AttentionWeights, head: Head, by: str) -> torch.Tensor:
    """The whole matrix by which a head's queries, keys or values read the stream."""
    return {
        "q": weights.W_Q[head] @ weights.W_K[head].mT,
        "k": weights.W_K[head] @ weights.W_Q[head].mT,
        "v": weights.W_V[head] @ weights.W_O[head],
    }[by]


@pytest.mark.parametrize("by", READERS)
def test_composition_is_that_of_the_whole_matrices(weights, by):
    into = Head(2, 1)
    found = composition.composition(weights, into, by)
    assert found.shape == (2, HEADS)
    reads = chain(weights, into, by)
    for layer in range(into.layer):
        for head in range(HEADS):
            writes = weights.W_V[layer, head] @ weights.W_O[layer, head]
            expected = torch.linalg.norm(writes @ reads) / torch.linalg.norm(writes) / torch.linalg.norm(reads)
            assert found[layer, head] == pytest.approx(float(expected), abs=1e-9)


def test_a_planted_pair_composes_fully_and_stands_out(weights):
    """A sender that writes only to what a receiver's keys read has composition one with it, and with its queries little."""
    into, sender = Head(2, 3), Head(0, 1)
    frame = orthonormal(WIDTH, 2, 5)
    reads, writes = torch.zeros(WIDTH, D_HEAD, dtype=torch.float64), torch.zeros(D_HEAD, WIDTH, dtype=torch.float64)
    reads[:, 0], writes[0] = frame[:, 0], frame[:, 0]
    planted = with_head(with_head(weights, into, W_K=reads), sender, W_O=writes)
    assert composition.composition(planted, into, "k")[sender] == pytest.approx(1.0)
    assert composition.composition(planted, into, "k").argmax() == sender.layer * HEADS + sender.head
    assert composition.composition(planted, into, "q")[sender] < 0.8
    silent = with_head(planted, sender, W_O=torch.zeros_like(writes))
    assert composition.composition(silent, into, "k")[sender] == 0, "what writes nothing is not read"


def test_composition_does_not_depend_on_how_large_the_weights_are(weights):
    into, sender = Head(2, 1), Head(1, 0)
    larger = with_head(weights, sender, W_O=7 * weights.W_O[sender])
    for by in READERS:
        np.testing.assert_allclose(composition.composition(larger, into, by), composition.composition(weights, into, by))


# Rotations.


def test_rotated_composition_is_that_of_rotated_weights(weights):
    """The null distribution from overlaps alone against whole rotations of every sender's output."""
    into, n = Head(2, 1), 400
    overlaps = composition.random_overlaps(WIDTH - 1, D_HEAD, n, seed=0)
    fast = composition.rotated_composition(weights, into, "k", composition.spectra(weights), overlaps, seed=0)
    basis = torch.linalg.svd(torch.ones(1, WIDTH, dtype=torch.float64)).Vh[1:]  # all directions without a mean
    slow = []
    for seed in range(n):
        turned = basis.mT @ orthonormal(WIDTH - 1, WIDTH - 1, seed) @ basis
        slow.append(composition.composition(dataclasses.replace(weights, W_O=weights.W_O @ turned), into, "k"))
    assert fast.shape == (n, 2, HEADS)
    np.testing.assert_allclose((fast**2).mean(0), (np.stack(slow) ** 2).mean(0), rtol=0.05)
    np.testing.assert_allclose(fast.std(0), np.stack(slow).std(0), rtol=0.25)


def test_on_average_a_rotation_leaves_one_part_in_as_many_as_there_are_dimensions(weights):
    overlaps = composition.random_overlaps(WIDTH - 1, D_HEAD, 2000, seed=3)
    assert overlaps.mean() == pytest.approx(1 / (WIDTH - 1), rel=0.01)
    fast = composition.rotated_composition(weights, Head(2, 0), "q", composition.spectra(weights), overlaps, seed=0)
    np.testing.assert_allclose((fast**2).mean(0), 1 / (WIDTH - 1), rtol=0.05)


def test_a_null_distribution_is_its_seeds_and_its_senders_are_independent(weights):
    overlaps = composition.random_overlaps(WIDTH - 1, D_HEAD, 300, seed=1)
    assert torch.equal(overlaps, composition.random_overlaps(WIDTH - 1, D_HEAD, 300, seed=1))
    null = composition.rotated_composition(weights, Head(2, 0), "v", composition.spectra(weights), overlaps, seed=1).reshape(
        300, -1
    )
    correlations = np.corrcoef(null.T) - np.eye(null.shape[1])
    assert np.abs(correlations).max() < 0.25


@pytest.mark.parametrize("by", READERS)
def test_what_later_heads_read_is_what_they_read_of_this_sender_by_themselves(weights, by):
    sender = Head(0, 2)
    found = composition.received(weights, sender, by)
    assert found.shape == (2, HEADS)
    for layer in (1, 2):
        for head in range(HEADS):
            alone = composition.composition(weights, Head(layer, head), by)[sender]
            assert found[layer - 1, head] == pytest.approx(alone, abs=1e-9)


def test_a_rotated_sender_is_read_as_one_whose_output_is_rotated(weights):
    """On average over rotations, one part in as many as there are dimensions; and spread as by whole rotations."""
    sender, n = Head(0, 2), 400
    fast = composition.rotated_received(weights, sender, "k", n, seed=0)
    basis = torch.linalg.svd(torch.ones(1, WIDTH, dtype=torch.float64)).Vh[1:]
    slow = []
    for seed in range(n):
        turned = weights.W_O[sender] @ basis.mT @ orthonormal(WIDTH - 1, WIDTH - 1, seed) @ basis
        slow.append(composition.received(with_head(weights, sender, W_O=turned), sender, "k"))
    np.testing.assert_allclose((fast**2).mean(0), 1 / (WIDTH - 1), rtol=0.1)
    np.testing.assert_allclose(fast.std(0), np.stack(slow).std(0), rtol=0.3)


# Attention by position.


def test_attention_back_is_that_of_a_plain_loop(weights):
    scores = composition.positional_scores(weights, 1, 7)
    stream = torch.nn.functional.layer_norm(weights.W_pos[:7], (WIDTH,), eps=weights.eps)
    for back in (1, 2):
        found = composition.attention_back(scores, back)
        assert found.shape == (HEADS, 7 - back)
        for head in range(HEADS):
            q, k = (stream @ W[1, head] + b[1, head] for W, b in ((weights.W_Q, weights.b_Q), (weights.W_K, weights.b_K)))
            for position in range(back, 7):
                pattern = torch.softmax(q[position] @ k[: position + 1].mT / weights.scale[1], dim=0)
                assert found[head, position - back] == pytest.approx(float(pattern[position - back]), abs=1e-9)


def test_a_head_that_is_made_to_look_back_does(weights):
    """Positions that are orthogonal, and keys turned on by one: all attention falls on the position before."""
    positions = 40 * orthonormal(WIDTH, WIDTH, 2)[:POSITIONS]
    positions = positions - positions.mean(-1, keepdim=True)
    shift = torch.zeros(POSITIONS, POSITIONS, dtype=torch.float64)
    shift[range(1, POSITIONS), range(POSITIONS - 1)] = 1.0
    wide = dataclasses.replace(
        weights,
        W_pos=positions,
        W_Q=(torch.linalg.pinv(positions) @ shift)[None, None] * 1e5,
        W_K=torch.linalg.pinv(positions)[None, None],
        b_Q=torch.zeros(1, 1, POSITIONS, dtype=torch.float64),
        b_K=torch.zeros(1, 1, POSITIONS, dtype=torch.float64),
    )
    back = composition.attention_back(composition.positional_scores(wide, 0, POSITIONS), 1)[0]
    assert back.min() > 0.99
