"""What a head writes along the names, and how that goes with its attention to them (Wang et al. 2022, section 3.1)."""

from dataclasses import dataclass

import numpy as np
import torch

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.task import Task


@dataclass(frozen=True, repr=False)
class NameProjections(Task):
    """A head's output at END along the unembeddings of IO and S."""

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
