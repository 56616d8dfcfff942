"""What heads attend to, from role to role, and how attention goes with what a head writes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.operations.attribution_patching import AttributionPatching
from circuit_claims.tasks.task import as_array, head_list


@dataclass(frozen=True, repr=False)
class Attention(AttributionPatching):
    """Attention between the roles of a prompt."""

    def mean_attention(self, heads: Sequence[Head], *, to: str, of: str = "END") -> Measurement:
        """Attention probability from one role's position to another's, averaged over heads (Wang et al. 2022, section 3.1)."""

        def measure(batch: Batch) -> np.ndarray:
            return np.mean([as_array(self.attention_of(batch, h, of).gather(1, batch.at(to))[:, 0]) for h in heads], axis=0)

        return self.samples(f"attention of {head_list(heads)} from {of} to {to}", "probability", measure)

    def attention_sweep(self, *, to: str, of: str = "END") -> Measurement:
        """Every head's attention probability from one role's position to another's: a grid layer × head."""
        model, layers = self.subject.transformer, range(self.subject.transformer.n_layers)

        def measure(batch: Batch) -> np.ndarray:
            run, rows = self.subject.run(batch.tokens), np.arange(len(batch.tokens))
            query, key = batch.at(of)[:, 0], batch.at(to)[:, 0]
            return np.stack([as_array(model.attention(i, run.resid[i]).pattern[rows, :, query, key]) for i in layers], axis=1)

        return self.grid(f"attention of every head from {of} to {to}", "probability", measure, **self.heads_axis)

    def attention_preference(self, head: Head, *, to: str, of: str = "END") -> Measurement:
        """Attention to one role minus the most that any other position of the sentence gets.

        The first position is left out: heads without a match rest there (the attention sink), and it carries no role.
        """

        def measure(batch: Batch) -> np.ndarray:
            pattern, wanted = self.attention_of(batch, head, of), batch.at(to)
            others = pattern.scatter(1, wanted, -1.0)
            others[:, 0] = -1.0
            return as_array(pattern.gather(1, wanted)[:, 0] - others.max(1).values)

        return self.samples(f"attention of {head} from {of} to {to} over the next most", "probability", measure)

    def mean_preference(self, heads: Sequence[Head], *, to: str, of: str = "END") -> Measurement:
        """`attention_preference`, averaged over heads."""
        each = [self.attention_preference(head, to=to, of=of) for head in heads]
        quantity = f"attention of {head_list(heads)} from {of} to {to} over the next most"
        return combined(each, lambda *values: np.mean(values, axis=0), quantity, "probability")

    def attention_difference(self, heads: Sequence[Head], *, to: str, over: str, of: str = "END") -> Measurement:
        """Attention to one role minus attention to another, averaged over heads."""
        quantity = f"attention of {head_list(heads)} from {of} to {to} minus to {over}"
        return self.mean_attention(heads, to=to, of=of).minus(
            self.mean_attention(heads, to=over, of=of), quantity, "probability"
        )

    def writing_along_names(self, head: Head) -> Measurement:
        """What a head writes at END along W_U[IO] minus W_U[S], in logits, the final layer norm frozen at the prompt's own."""
        return self.samples(
            f"what {head} writes along IO minus S", "logits", lambda batch: np.subtract(*self._written(batch, head))
        )

    def attention_projection_correlation(self, head: Head) -> Measurement:
        """Correlation of a head's attention from END to a name with what it writes along that name's unembedding.

        Two points a prompt, IO and S1 (Wang et al. 2022, section 3.1 and figure 3c); the projection is W_U[name] · output.
        Pearson's coefficient over all points, from their moments, so that it can be bootstrapped like a mean.
        """

        def measure(batch: Batch) -> np.ndarray:
            pattern = self.attention_of(batch, head, "END")
            x = np.stack([as_array(pattern.gather(1, batch.at(role))[:, 0]) for role in ("IO", "S1")])
            y = np.stack(self._written(batch, head, frozen_norm=False))
            moments = np.stack([x, y, x * x, y * y, x * y]).mean(1)  # over the two names
            return moments.T[:, None, :]

        grid = self.grid(
            f"moments of the attention and projection of {head}",
            "",
            measure,
            columns=["x", "y", "xx", "yy", "xy"],
            column_axis="moment",
            rows=["END"],
        )
        return grid.of(correlation, f"correlation of {head}'s attention to a name and its projection on it", "correlation")

    def _written(self, batch: Batch, head: Head, *, frozen_norm: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The head's output at END along W_U of IO and of S."""
        model = self.subject.transformer
        run, rows = self.subject.run(batch.tokens), torch.arange(len(batch.tokens))
        z = model.attention(head.layer, run.resid[head.layer]).z[rows, -1, head.head]
        out = model.head_out(head.layer, z, head.head)
        if frozen_norm:
            out = model.frozen_norm(out, run.resid[-1][:, -1])
        columns = model.W_U.T[batch.answers]
        projected = torch.einsum("pd,pad->pa", out, columns)
        return as_array(projected[:, 0]), as_array(projected[:, 1])


def correlation(moments: np.ndarray) -> np.ndarray:
    """Pearson's coefficient from the means of x, y, x², y² and xy, `[..., 1, 5]`."""
    x, y, xx, yy, xy = np.moveaxis(moments[..., 0, :], -1, 0)
    spread = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0))
    return np.divide(xy - x * y, spread, out=np.zeros_like(spread), where=spread > 1e-12)
