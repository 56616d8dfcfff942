"""Numbers that follow from the attention weights alone: copying scores, composition between heads, attention by position.

Every product of two rank-64 matrices of the model's width is taken through its small side: `W_V W_O`, 768 × 768, has the
nonzero eigenvalues of `W_O W_V`, 64 × 64, and the Frobenius norm of a chain follows from the Gram matrices at its ends.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.heads import Head, Reader
from circuit_claims.tasks.weights.attention_weights import AttentionWeights


def copying_scores(weights: AttentionWeights) -> Float[np.ndarray, "layer head"]:
    """The sum of the eigenvalues of each head's `W_V W_O` as a share of the sum of their sizes: 1 where all are positive.

    Source: Elhage et al. 2021, "Copying / primitive in-context learning" (the eigenvalue summary); TransformerLens, Main_Demo.
    A head that writes nothing has the score 0.
    """
    # NumPy's routine, since torch's does not converge for heads whose product is nearly nilpotent, as planted ones are.
    eigenvalues = np.linalg.eigvals((weights.W_O @ weights.W_V).numpy())
    total, size = eigenvalues.sum(-1).real, np.abs(eigenvalues).sum(-1)
    return np.divide(total, size, out=np.zeros_like(size), where=size > 0)


def composition(weights: AttentionWeights, receiver: Head, by: Reader) -> Float[np.ndarray, "earlier_layer head"]:
    """How much of what each head of an earlier layer writes is read by one of the receiver's three inputs.

    The norm of the sender's `W_V W_O` followed by the receiver's `W_Q W_K^T` (for "q"), `W_K W_Q^T` ("k") or `W_V W_O` ("v"),
    divided by the norms of the two. Source: Elhage et al. 2021, "Two-layer attention-only transformers": Q-, K- and
    V-composition. A head that writes nothing, or a receiver that reads nothing, gives 0.
    """
    reads, then = _receiver(weights, receiver, by)
    W_V, W_O = weights.W_V[: receiver.layer], weights.W_O[: receiver.layer]
    meets, before, after = W_O @ reads, W_V.mT @ W_V, then @ then.mT
    together = ((before @ meets @ after) * meets).sum((-2, -1))
    sender = (before * (W_O @ W_O.mT)).sum((-2, -1))
    receives = ((reads.mT @ reads) * after).sum()
    return _ratio(together, sender * receives).sqrt().numpy()


def rotated_composition(
    weights: AttentionWeights,
    receiver: Head,
    by: Reader,
    written: Float[Tensor, "layer head d_head"],
    overlaps: Float[Tensor, "rotation d_head d_head"],
    seed: int,
) -> Float[np.ndarray, "rotation earlier_layer head"]:
    """The same where each sender's output has been turned at random, each by a rotation of its own.

    A rotation leaves a sender's singular values, and takes away whatever agreement there is between the directions that it
    writes to and those that the receiver reads. written: of `spectra`; overlaps: of `random_overlaps`, which each sender takes
    in its own order.
    """
    n, senders = len(overlaps), receiver.layer * weights.n_heads
    written = written[: receiver.layer].flatten(0, 1)
    reads, then = _receiver(weights, receiver, by)
    read = _squared_singular_values(reads[None], then[None])[0]
    shares, of = _ratio(written, written.sum(-1, keepdim=True)), _ratio(read, read.sum())
    found = (shares @ (overlaps @ of).mT).clamp_min(0).sqrt()
    random = np.random.default_rng(seed)
    orders = torch.from_numpy(np.stack([random.permutation(n) for _ in range(senders)]))
    return found.gather(1, orders).T.unflatten(1, (receiver.layer, weights.n_heads)).numpy()


def received(weights: AttentionWeights, sender: Head, by: Reader) -> Float[np.ndarray, "later_layer head"]:
    """How much of what one head writes is read by the queries, keys or values of each head of a later layer."""
    W_V, W_O = weights.W_V[sender], weights.W_O[sender]
    # The sender's whole matrix has the size of these 64 rows: its directions, each by its singular value.
    values, vectors = torch.linalg.eigh(W_V.mT @ W_V)
    return _LaterReaders(weights, sender, by).read((vectors * values.clamp_min(0).sqrt()).mT @ W_O)


def rotated_received(
    weights: AttentionWeights, sender: Head, by: Reader, n: int, seed: int
) -> Float[np.ndarray, "rotation later_layer head"]:
    """The same where the sender's output has been turned at random, by n rotations; all receivers meet the same ones."""
    sizes = _squared_singular_values(weights.W_V[sender][None], weights.W_O[sender][None])[0].sqrt()
    readers = _LaterReaders(weights, sender, by)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        directions = torch.randn(weights.W_pos.shape[1], len(sizes), generator=generator, dtype=torch.float64)
        frame = torch.linalg.qr(directions - directions.mean(0)).Q
        found.append(readers.read(sizes[:, None] * frame.mT))
    return np.stack(found)


class _LaterReaders:
    """What all heads of the layers after a sender's read the stream by, made ready for many senders' worth of output."""

    def __init__(self, weights: AttentionWeights, sender: Head, by: Reader) -> None:
        later = slice(sender.layer + 1, None)
        self.reads, then = {
            "q": (weights.W_Q[later], weights.W_K[later].mT),
            "k": (weights.W_K[later], weights.W_Q[later].mT),
            "v": (weights.W_V[later], weights.W_O[later]),
        }[by]
        self.after = then @ then.mT
        self.size = ((self.reads.mT @ self.reads) * self.after).sum((-2, -1))

    def read(self, written: Float[Tensor, "d_head d_model"]) -> Float[np.ndarray, "later_layer head"]:
        """The composition of each with a sender whose matrix is as large as `written`, and writes to the same directions."""
        meets = written @ self.reads
        together = ((meets @ self.after) * meets).sum((-2, -1))
        return _ratio(together, written.square().sum() * self.size).sqrt().numpy()


def spectra(weights: AttentionWeights) -> Float[Tensor, "layer head d_head"]:
    """The squared singular values of each head's `W_V W_O`."""
    found = _squared_singular_values(weights.W_V.flatten(0, 1), weights.W_O.flatten(0, 1))
    return found.unflatten(0, weights.W_V.shape[:2])


def random_overlaps(width: int, rank: int, n: int, seed: int) -> Float[Tensor, "rotation rank rank"]:
    """The squared entries of the first `rank` rows and columns of n random rotations of `width` dimensions.

    The first columns are an orthonormal frame that is equally likely to lie anywhere: Gaussian columns, made orthonormal.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        columns = torch.randn(width, rank, generator=generator, dtype=torch.float64)
        factor = torch.linalg.cholesky(columns.mT @ columns)
        frame = torch.linalg.solve_triangular(factor, columns[:rank].mT, upper=False).mT
        found.append(frame**2)
    return torch.stack(found)


def positional_scores(weights: AttentionWeights, layer: int, positions: int) -> Float[Tensor, "head query key"]:
    """The attention scores of a layer's heads where the stream holds position embeddings and nothing else.

    They come through the layer norm, as the stream would; later positions are not yet masked.
    """
    stream = weights.W_pos[:positions]
    stream = stream - stream.mean(-1, keepdim=True)
    stream = stream / (stream.square().mean(-1, keepdim=True) + weights.eps).sqrt()
    queries = stream @ weights.W_Q[layer] + weights.b_Q[layer][:, None]
    keys = stream @ weights.W_K[layer] + weights.b_K[layer][:, None]
    return queries @ keys.mT / weights.scale[layer]


def attention_back(scores: Float[Tensor, "... query key"], back: int) -> Float[Tensor, "... query"]:
    """The attention that each position pays to the one `back` before it, from the position `back` on."""
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
    return pattern.diagonal(-back, -2, -1)


def _receiver(weights: AttentionWeights, receiver: Head, by: Reader) -> tuple[Tensor, Tensor]:
    """What reads the stream, `[d_model, d_head]`, and what comes after it, `[d_head, d_model]`."""
    layer, head = receiver
    return {
        "q": (weights.W_Q[layer, head], weights.W_K[layer, head].mT),
        "k": (weights.W_K[layer, head], weights.W_Q[layer, head].mT),
        "v": (weights.W_V[layer, head], weights.W_O[layer, head]),
    }[by]


def _squared_singular_values(
    left: Float[Tensor, "head d_model d_head"], right: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head d_head"]:
    """Those of each product left × right, through the square root of the left one's Gram matrix."""
    values, vectors = torch.linalg.eigh(left.mT @ left)
    root = vectors * values.clamp_min(0).sqrt()[:, None, :]
    return torch.linalg.eigvalsh(root.mT @ (right @ right.mT) @ root).clamp_min(0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """The ratio, and 0 where there is nothing to take a share of."""
    return torch.where(whole > 0, part.clamp_min(0) / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0.0)
