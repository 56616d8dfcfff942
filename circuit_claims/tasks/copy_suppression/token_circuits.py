"""A head from token to token: what its OV circuit writes of each token to each other, and what its QK circuit looks for.

Source: McDougall et al. 2023 ("Copy Suppression: Comprehensively Understanding an Attention Head"), section 3 and the authors'
notebook `section_41_42.ipynb`. Keys and values stand on the effective embedding, which is what block 0 makes of a token by
itself; queries on the unembedding, since the head is said to look for what is about to be predicted. Weights are taken with
layer norm folded in and centred (TransformerLens's `fold_ln`, `center_writing_weights`, `center_unembed`), whatever mode the
model was loaded in, and no bias of queries, keys or values is added: all as in the notebook.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.engine.weights import Weights
from circuit_claims.heads import Head

Circuit = Literal["OV", "QK"]
CIRCUITS: tuple[Circuit, ...] = get_args(Circuit)

#: Tokens that go through block 0, or whose row over the vocabulary is held, at a time.
ROWS = 128


@dataclass(frozen=True)
class TokenMatrix:
    """A matrix token × token as two thin factors: a row is a token's, and the higher an entry, the better it does there.

    OV: row i holds how much token i, attended to, suppresses each token (minus its logits). QK: row i holds how much the head
    attends to each token while token i is about to be predicted.
    """

    left: Float[Tensor, "token d_head"]
    right: Float[Tensor, "d_head token"]

    def ranks(self, rows: Int[Tensor, " n"], columns: Int[Tensor, "n k"] | None = None) -> Int[Tensor, "n k"]:
        """In each of some rows, how many other entries do as well as the ones in `columns` or better: 0 is best.

        columns: one or more for every row; the diagonal unless they are given. Entries that tie count against each other, so
        that a head that writes nothing is best at nothing.
        """
        columns = rows[:, None] if columns is None else columns
        found, at_least = [], self.left.new_empty(0)
        for some, wanted in zip(rows.split(ROWS), columns.split(ROWS), strict=True):
            entries = self.left[some] @ self.right
            if at_least.shape != entries.shape:
                at_least = torch.empty_like(entries)
            # Counted as numbers, which is several times faster than as truths; single precision counts to 16 million.
            counts = [torch.ge(entries, one[:, None], out=at_least).sum(1) for one in entries.gather(1, wanted).T]
            found.append(torch.stack(counts, dim=1).long() - 1)
        return torch.cat(found)


def effective_embedding(model: Weights) -> Float[Tensor, "token d_model"]:
    """The stream after block 0 of every token by itself: attention pays all to the token, and no position is added.

    The attention's biases are left out, the MLP's are not (the notebook's `get_effective_embedding`).
    """
    block, values = model.layers[0], slice(2 * model.n_heads * model.d_head, None)
    W_V, W_O = _reading(block.W_qkv[:, values], block.ln1[0]), _centred(_wide(block.W_O))
    gain, bias = map(_wide, block.ln2)
    W_in, b_in, W_out, b_out = map(_wide, (block.W_in, block.b_in, block.W_out, block.b_out))
    parts = []
    for some in model.W_E.split(ROWS):
        stream = _centred(_wide(some))
        middle = stream + F.layer_norm(stream, stream.shape[-1:], eps=model.eps) @ W_V @ W_O
        hidden = model.activation(F.layer_norm(middle, middle.shape[-1:], gain, bias, model.eps) @ W_in + b_in)
        parts.append(middle + _centred(hidden @ W_out + b_out))
    return torch.cat(parts)


def unembedding(model: Weights) -> Float[Tensor, "d_model token"]:
    """W_U with the final layer norm's gain folded in, centred over the stream and over the vocabulary."""
    return _centred(_reading(model.W_U, model.ln_final[0]))


def token_matrix(
    model: Weights,
    head: Head,
    circuit: Circuit,
    embedding: Float[Tensor, "token d_model"],
    unembedding: Float[Tensor, "d_model token"],
) -> TokenMatrix:
    """One head's OV circuit, W_EE W_V W_O W_U, or QK circuit, W_Uᵀ W_Q W_Kᵀ W_EEᵀ.

    Raises ValueError for an unknown circuit.
    """
    if circuit not in CIRCUITS:
        raise ValueError(f"unknown circuit {circuit!r}: use one of {', '.join(CIRCUITS)}")
    block, size = model.layers[head.layer], model.d_head

    def reads(which: str) -> Float[Tensor, "d_model d_head"]:
        first = ("QKV".index(which) * model.n_heads + head.head) * size
        return _reading(block.W_qkv[:, first : first + size], block.ln1[0])

    if circuit == "QK":
        return TokenMatrix(unembedding.T @ reads("Q"), (embedding @ reads("K")).T)
    W_O = _centred(_wide(block.W_O[head.head * size : (head.head + 1) * size]))
    return TokenMatrix(-(embedding @ reads("V")), W_O @ unembedding)


def full_copying_scores(model: Weights) -> Float[np.ndarray, "layer head"]:
    """The copying score of each full OV circuit, W_E W_V W_O W_U: the sum of the eigenvalues over the sum of their sizes.

    The eigenvalues are those of the product taken the other way round, which is as small as a head is wide. Source: Elhage et
    al. 2021, "Copying / primitive in-context learning"; TransformerLens, Main_Demo. A head that writes nothing has the score 0.
    """
    between = (unembedding(model).double() @ _centred(_wide(model.W_E)).double()).cpu()
    scores = np.zeros((model.n_layers, model.n_heads))
    for head in all_heads(model):
        block, first = model.layers[head.layer], head.head * model.d_head
        reads = _reading(block.W_qkv[:, 2 * model.n_heads * model.d_head + first :][:, : model.d_head], block.ln1[0])
        writes = _centred(_wide(block.W_O[first : first + model.d_head]))
        eigenvalues = np.linalg.eigvals((writes.double().cpu() @ between @ reads.double().cpu()).numpy())
        size = np.abs(eigenvalues).sum()
        scores[head] = eigenvalues.sum().real / size if size > 0 else 0.0
    return scores


def all_heads(model: Weights) -> Iterator[Head]:
    """Every head, layer by layer."""
    return (Head(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads))


def _reading(weight: Float[Tensor, "d_model ..."], gain: Float[Tensor, " d_model"]) -> Float[Tensor, "d_model ..."]:
    """A weight that reads the stream through a layer norm: its gain folded in, and without the part that reads the mean."""
    folded = _wide(gain)[:, None] * _wide(weight)
    return folded - folded.mean(0)


def _centred(written: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    return written - written.mean(-1, keepdim=True)


def _wide(tensor: Tensor) -> Tensor:
    """In single precision at least: ranks of half-precision numbers are mostly ties."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
