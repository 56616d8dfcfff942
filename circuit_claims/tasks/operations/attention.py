"""What heads attend to, from role to role."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.task import Task


@dataclass(frozen=True, repr=False)
class Attention(Task):
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

    def attention_sweeps(self, roles: Sequence[tuple[str, str]]) -> Measurement:
        """Every head's attention from role to role, of several pairs (from, to): a grid layer × head, pair beside pair.

        The patterns of a layer are computed once for all pairs.
        """
        model, layers = self.subject.transformer, range(self.subject.transformer.n_layers)

        def measure(batch: Batch) -> np.ndarray:
            run, rows = self.subject.run(batch.tokens), np.arange(len(batch.tokens))
            places = [(batch.at(of)[:, 0], batch.at(to)[:, 0]) for of, to in roles]

            def of_layer(layer: int) -> np.ndarray:
                pattern = model.attention(layer, run.resid[layer]).pattern
                return np.concatenate([as_array(pattern[rows, :, query, key]) for query, key in places], axis=1)

            return np.stack([of_layer(layer) for layer in layers], axis=1)

        labels = [f"{head} {of} to {to}" for of, to in roles for head in self.heads_axis["columns"]]
        pairs = ", ".join(f"{of} to {to}" for of, to in roles)
        return self.grid(f"attention of every head, {pairs}", "probability", measure, columns=labels, column_axis="head")

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
