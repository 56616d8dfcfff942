"""How good a sparse autoencoder is, in sums over the tokens of each row of text, so that any of its numbers is a ratio of sums.

The definitions are those of sae-lens 6.54's `run_evals`, which `tests/sae/test_sae_measures.py` holds these against on the same
tokens:

- l0: features that are not zero, a token;
- mse: ||x − x̂||², summed over components, a token;
- explained variance: 1 − E||x − x̂||² / E||x − E x||², the mean over all tokens together (sae-lens had another formula, now
  `explained_variance_legacy`, until 6.45.1: the mean over tokens of their own ratios);
- cosine: of x and x̂;
- loss recovered (`ce_loss_score`): (H0 − H*) / (H0 − H), where H is the cross-entropy of the model, H* with the reconstruction
  in place of the stream, H0 with zeros there (SAEBench, equation 4; its signs are turned in numerator and denominator);
- KL(model || model with the reconstruction), in nats, a token.

Special tokens (BOS, EOS, padding) count in none, and their stream stays as it is when the reconstruction is put in; zero
ablation sets theirs to zero too, as sae-lens does. Cross-entropy is that of the token after a counted one.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.sae.folder import SaeError
from circuit_claims.sae.loaded import ACTIVATIONS, LoadedSae
from circuit_claims.time_spent import spent_on

#: Logits that are held at a time, in numbers; there are three sets of them.
LOGITS = 1 << 23


@dataclass(frozen=True)
class RowSums:
    """Sums over the counted tokens of each row; every field has one entry a row.

    tokens: how many are counted, and predictions, how many of them have a next token in the row.
    stream: `[row, d_model]`, the sum of the stream's vectors; square: of their squared norms.
    error: of ||x − x̂||². loss, loss_sae, loss_zero: of the cross-entropies, in nats.
    """

    tokens: Float[np.ndarray, " row"]
    predictions: Float[np.ndarray, " row"]
    l0: Float[np.ndarray, " row"]
    l1: Float[np.ndarray, " row"]
    stream: Float[np.ndarray, "row d_model"]
    square: Float[np.ndarray, " row"]
    error: Float[np.ndarray, " row"]
    cosine: Float[np.ndarray, " row"]
    loss: Float[np.ndarray, " row"]
    loss_sae: Float[np.ndarray, " row"]
    loss_zero: Float[np.ndarray, " row"]
    kl: Float[np.ndarray, " row"]
    kl_zero: Float[np.ndarray, " row"]

    @property
    def variance(self) -> Float[np.ndarray, " row"]:
        """The sum of ||x − E x||², where the mean is over the counted tokens of all rows."""
        mean = self.stream.sum(0) / self.tokens.sum()
        return self.square - 2 * self.stream @ mean + self.tokens * (mean @ mean)

    def numbers(self) -> dict[str, float]:
        """All of them, over all rows."""
        tokens, predictions = self.tokens.sum(), self.predictions.sum()
        return {
            "tokens": int(tokens),
            "l0": float(self.l0.sum() / tokens),
            "l1": float(self.l1.sum() / tokens),
            "mse": float(self.error.sum() / tokens),
            "explained_variance": float(1 - self.error.sum() / self.variance.sum()),
            "cosine": float(self.cosine.sum() / tokens),
            "loss": float(self.loss.sum() / predictions),
            "loss_with_sae": float(self.loss_sae.sum() / predictions),
            "loss_with_zeros": float(self.loss_zero.sum() / predictions),
            "loss_recovered": float((self.loss_zero - self.loss_sae).sum() / (self.loss_zero - self.loss).sum()),
            "kl": float(self.kl.sum() / tokens),
            "kl_with_zeros": float(self.kl_zero.sum() / tokens),
        }


def joined(parts: Sequence[RowSums]) -> RowSums:
    """The sums of several lots of rows as one."""
    return RowSums(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(RowSums)})


@spent_on("evaluating the SAE")
@torch.inference_mode()
def row_sums(
    sae: LoadedSae, rows: Int[Tensor, "row pos"], special: Collection[int] = ()
) -> tuple[RowSums, Int[np.ndarray, " d_sae"]]:
    """Measure an SAE on rows of text, a few rows at a time; and how many counted tokens each feature fired on.

    special: token ids that do not count.

    Raises SaeError where there are no rows, or where nothing in them counts.
    """
    if rows.numel() == 0:
        raise SaeError("there is no text to measure the SAE on: give at least one row of tokens")
    parts, fired = [], torch.zeros(sae.n_features, dtype=torch.long)
    for some in _chunks(sae, rows):
        counted = counted_tokens(some, special)
        part, active = _measure(sae, some, counted)
        parts.append(part)
        fired += active.cpu()
    sums = joined(parts)
    if not sums.tokens.sum():
        raise SaeError("there is no text to measure the SAE on: all of its tokens are special ones")
    return sums, fired.numpy()


def counted_tokens(rows: Int[Tensor, "row pos"], special: Collection[int]) -> Bool[Tensor, "row pos"]:
    """Which tokens are none of the special ones."""
    return ~torch.isin(rows, torch.tensor(sorted(special), dtype=rows.dtype, device=rows.device))


def special_tokens(tokenizer: Any) -> tuple[int, ...]:
    """BOS, EOS and padding, as far as the tokenizer has them: what sae-lens's `exclude_special_tokens` leaves out."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return tuple(sorted({getattr(tokenizer, name) for name in names} - {None}))


def _chunks(sae: LoadedSae, rows: Int[Tensor, "row pos"]) -> Iterator[Int[Tensor, "row pos"]]:
    widest = max(sae.n_features / ACTIVATIONS, sae.subject.transformer.W_U.shape[1] / LOGITS)
    return iter(rows.to(sae.subject.device).split(max(1, int(1 / (rows.shape[1] * widest)))))


def _measure(
    sae: LoadedSae, rows: Int[Tensor, "row pos"], counted: Bool[Tensor, "row pos"]
) -> tuple[RowSums, Int[Tensor, " d_sae"]]:
    model = sae.subject.transformer
    stream = sae.stream(rows)
    features = sae.encode(stream)
    rebuilt = sae.decode(features, stream)
    put = torch.where(counted[..., None], rebuilt, stream)
    clean, spliced, zeroed = (
        model.logits(model.start_at_layer(x, sae.layer)).float().log_softmax(-1)
        for x in (stream, put, torch.zeros_like(stream))
    )
    error = stream - rebuilt
    active = features != 0
    of_tokens = {
        "tokens": counted,
        "l0": active.sum(-1),
        "l1": features.abs().sum(-1),
        "square": stream.double().pow(2).sum(-1),
        "error": error.double().pow(2).sum(-1),
        "cosine": F.cosine_similarity(stream, rebuilt, dim=-1),
        "kl": _kl(clean, spliced),
        "kl_zero": _kl(clean, zeroed),
    }
    predicts = counted[:, :-1]
    of_predictions = {
        "predictions": predicts,
        "loss": _loss(clean, rows),
        "loss_sae": _loss(spliced, rows),
        "loss_zero": _loss(zeroed, rows),
    }
    sums = {name: _total(values, counted) for name, values in of_tokens.items()}
    sums |= {name: _total(values, predicts) for name, values in of_predictions.items()}
    sums["stream"] = (stream.double() * counted[..., None]).sum(1).cpu().numpy()
    return RowSums(**sums), (active & counted[..., None]).sum((0, 1))


def _total(values: Tensor, counted: Bool[Tensor, "row pos"]) -> Float[np.ndarray, " row"]:
    # Not by multiplication: what is not counted may be infinite.
    return values.double().masked_fill(~counted, 0.0).sum(1).cpu().numpy()


def _loss(log_probs: Float[Tensor, "row pos d_vocab"], rows: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos_but_last"]:
    return -log_probs[:, :-1].gather(-1, rows[:, 1:, None])[..., 0]


def _kl(p: Float[Tensor, "row pos d_vocab"], q: Float[Tensor, "row pos d_vocab"]) -> Float[Tensor, "row pos"]:
    return (p.exp() * (p - q)).sum(-1)
