"""The logit lens: what the model would answer, were its last layers left out.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens": the stream at END after each layer is put through the final
layer norm and the unembedding. What is read off depends on how far the later layers leave the stream's basis as it is, which
is a property of the model, not of the fact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from circuit_claims.heads import layer_labels
from circuit_claims.measure.intervals import mean_interval
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import clusters_of, in_order
from circuit_claims.tasks.metric import answer_probabilities, as_array
from circuit_claims.tasks.task import Task

#: What is read at each depth, in this order.
READ = ("probability of the answer", "probability of the other answer", "answer on top", "final answer on top")
CONFIDENCE = 0.95


@dataclass(frozen=True, repr=False)
class LogitLens(Task):
    """A task whose prompts are read through the logit lens at END."""

    def crossover_layer(self) -> Measurement:
        """The first layer after which the answer is the likeliest token; the number of layers where it never is.

        Layers count from 0. What the embeddings alone would answer is not counted.
        """
        return self._lens_samples("first layer after which the answer is on top", "layer", _crossover)

    def crossover_depth(self) -> Measurement:
        """The middle of the crossover layer as a share of the depth: L6 of 12 is 0.54; above 1 where there is none."""
        layers = self.subject.transformer.n_layers
        return self._lens_samples(
            "depth at which the answer comes up", "share of the depth", lambda read: (_crossover(read) + 0.5) / layers
        )

    def comes_up_late(self) -> Measurement:
        """1 where the answer is the likeliest token after no layer of the lower half."""
        half = self.subject.transformer.n_layers // 2
        return self._lens_samples(
            "the answer is on top after no layer of the lower half",
            "rate",
            lambda read: (_crossover(read) >= half).astype(float),
        )

    def layers_committed(self) -> Measurement:
        """In how many last layers the final answer, whatever it is, is the likeliest token throughout: at least one.

        With 3 of 12 layers, it is on top after L9, L10 and L11, and was not after L8.
        """

        def of(read: Float[np.ndarray, "prompt depth what"]) -> Float[np.ndarray, " prompt"]:
            backwards = read[:, :0:-1, 3] > 0
            return np.where(backwards.all(1), backwards.shape[1], (~backwards).argmax(1)).astype(float)

        return self._lens_samples("layers at the end that agree on the final answer", "layers", of)

    def layers_on_top(self) -> Measurement:
        """After how many layers the answer is the likeliest token."""
        return self._lens_samples("layers after which the answer is on top", "layers", lambda read: read[:, 1:, 2].sum(1))

    def layers_above_the_other(self) -> Measurement:
        """After how many layers the answer is likelier than the other answer."""

        def of(read: Float[np.ndarray, "prompt depth what"]) -> Float[np.ndarray, " prompt"]:
            return (read[:, 1:, 0] > read[:, 1:, 1]).sum(1).astype(float)

        return self._lens_samples("layers after which the answer is above the other", "layers", of)

    def ranked_among(self, k: int) -> Measurement:
        """1 where one of the two answers is among the k likeliest tokens at the end."""

        def measure(batch: Batch) -> np.ndarray:
            best = self.subject.last_logits(batch.tokens).topk(k).indices
            return as_array((best[:, :, None] == batch.tokens_compared[:, None]).any(2).any(1))

        return self.samples(f"one of the two answers is among the {k} likeliest tokens", "rate", measure)

    def _lens_samples(self, quantity: str, unit: str, of: Callable[[np.ndarray], np.ndarray]) -> Measurement:
        """A number a prompt, read off all depths; the report draws the curves it comes from."""

        def take(n: int) -> Samples:
            prompts = self.prompts(n)
            read = self._in_chunks(("logit lens",), self._lens, prompts)
            clusters = clusters_of(prompts)
            return Samples(
                values=of(read),
                quantity=quantity,
                unit=unit,
                clusters=clusters,
                prompts=prompts,
                population=self.about,
                exact=0 < len(self.fixed) <= n,
                drawn=self._curves(read, clusters),
            )

        return Measurement(take, self.prepend_bos, self.limit)

    def _lens(self, prompts: Sequence[Any]) -> Float[np.ndarray, "prompt depth what"]:
        """`READ` at END of each depth: of the embeddings, and after each layer."""
        return in_order(self.batches(prompts), self._lens_of)

    def _lens_of(self, batch: Batch) -> Float[np.ndarray, "prompt depth what"]:
        streams = self.subject.run(batch.tokens).resid[:, :, -1]
        final = self.subject.transformer.logits(streams[-1]).argmax(-1)
        depths = []
        for stream in streams:  # one after the other: logits of the whole vocabulary are large
            logits = self.subject.transformer.logits(stream).float()
            answers = as_array(answer_probabilities(logits, batch))
            first = logits.argmax(-1)
            depths.append(np.column_stack([answers, as_array(batch.is_answer(first)), as_array(first == final)]))
        return np.stack(depths, axis=1)

    def _curves(self, read: Float[np.ndarray, "prompt depth what"], clusters: Sequence[Any]) -> dict[str, Any]:
        """Both answers' probability by depth, as the report draws them, with 95 % intervals over clusters."""
        curves = []
        for column, label in enumerate(READ[:2]):
            depths = [Samples(values, label, "probability", clusters) for values in read[:, :, column].T]
            ends = [mean_interval(samples, CONFIDENCE, self.seed) for samples in depths] if len(read) > 1 else None
            curves.append(
                {
                    "label": label,
                    "values": [samples.estimate for samples in depths],
                    "low": None if ends is None else [low for low, _ in ends],
                    "high": None if ends is None else [high for _, high in ends],
                }
            )
        top = read[:, :, 2].mean(0)
        most = int(np.argmax(top > 0.5)) if (top > 0.5).any() else None
        return {
            "kind": "curves",
            "title": f"logit lens at END: {self.about}",
            "x": ["embedding", *layer_labels(read.shape[1] - 1)],
            "x_axis": "after",
            "y_axis": "probability",
            "curves": curves,
            "marks": [] if most is None else [{"x": most, "label": "the answer is on top of most prompts"}],
        }


def _crossover(read: Float[np.ndarray, "prompt depth what"]) -> Float[np.ndarray, " prompt"]:
    on_top = read[:, 1:, 2] > 0
    return np.where(on_top.any(1), on_top.argmax(1), on_top.shape[1]).astype(float)
