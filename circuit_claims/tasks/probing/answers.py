"""Linear probes on pairs: which answer of a small set can be read off the residual stream at a marked position.

As for IOI (see `circuit_claims.tasks.probing.task`), a probe is judged on clusters that it has seen nothing of, and against a
control task, the same with labels dealt out at random.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from circuit_claims.measure.figures import curve
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.prompts.contrasts.prompt import Answer, ContrastPrompt
from circuit_claims.prompts.source import number_of
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.probing.task import DEALT, FOLDS, IDENTITIES, PROMPTS, by_template, held_out
from circuit_claims.untested import Untested

if TYPE_CHECKING:  # which has these probes as a method
    from circuit_claims.tasks.contrast.task import ContrastTask

#: In how many clusters an answer has to stand, so that a probe has seen it in others than those it is judged on.
FEWEST_CLUSTERS = 5


@dataclass(frozen=True, repr=False)
class AnswerProbes:
    """Probes of the answer, on those pairs whose answer many clusters share: of the most frequent answers, eight at most."""

    pairs: "ContrastTask"

    def selectivity(self, *, at: str, layer: int) -> Measurement:
        """How much more often a probe of the stream before `layer` is right than on the control task, pair by pair.

        layer: from 0, the embeddings, to the number of layers, the final stream.

        Raises Untested where fewer than two answers stand in five clusters each.
        """
        return self._measured("selectivity", at, layer, lambda: self._right(at, layer) - self._right(at, layer, control=True))

    def accuracy(self, *, at: str, layer: int) -> Measurement:
        """How often a probe of the stream before `layer` is right, pair by pair; layer: as for `selectivity`."""
        return self._measured("accuracy", at, layer, lambda: self._right(at, layer))

    @property
    def chance(self) -> float:
        """How often always guessing the most frequent answer is right."""
        answers = Counter(prompt.right[0] for prompt in self.examples())
        return max(answers.values()) / sum(answers.values())

    def examples(self) -> list[ContrastPrompt]:
        """The pairs that probes are trained and tested on, 360 at most.

        Raises Untested where fewer than two answers stand in enough clusters.
        """
        return self.pairs.store.get((*self._place, "examples"), self._examples)

    def _examples(self) -> list[ContrastPrompt]:
        task = self.pairs
        prompts = task.prompts(len(task.population))
        clusters: dict[Answer, set[str]] = {}
        for prompt in prompts:
            clusters.setdefault(prompt.right[0], set()).add(prompt.cluster)
        counted = Counter(prompt.right[0] for prompt in prompts)
        many = [answer for answer, _ in counted.most_common() if len(clusters[answer]) >= FEWEST_CLUSTERS][:IDENTITIES]
        if len(many) < 2:
            do = "does" if len(many) == 1 else "do"
            raise Untested(
                f"a probe tells apart answers that stand in {FEWEST_CLUSTERS} clusters or more, and of the {len(counted)} "
                f"answers in {task.population.table.name} {len(many)} {do}: give pairs that share answers"
            )
        return [prompt for prompt in prompts if prompt.right[0] in many][:PROMPTS]

    def _measured(self, what: str, at: str, layer: int, values: Any) -> Measurement:
        task, last = self.pairs, self.pairs.subject.transformer.n_layers
        where = "at the end" if layer == last else f"before layer {layer}"

        def take(n: int) -> Samples:
            prompts = self.examples()[:n]
            return Samples(
                values()[:n],
                f"{what} of a probe of the answer at {at} {where}{task.under}",
                "share of prompts",
                clusters=[prompt.cluster for prompt in prompts],
                prompts=prompts,
                population=f"{task.about}; clusters held out",
                drawn=self._curves(at),
            )

        return Measurement(take, task.prepend_bos, len(self.examples()))

    def _right(self, at: str, layer: int, *, control: bool = False) -> Float[np.ndarray, " prompt"]:
        """1 where the probe that has seen nothing of a pair's part of the clusters is right about it."""

        def measured() -> np.ndarray:
            prompts = self.examples()
            answers = sorted({prompt.right[0] for prompt in prompts}, key=str)
            labels = np.array([answers.index(prompt.right[0]) for prompt in prompts])
            if control:
                labels = np.random.default_rng([self.pairs.seed, DEALT]).permutation(labels)
            clusters = sorted({prompt.cluster for prompt in prompts}, key=lambda cluster: (number_of(cluster), cluster))
            part_of = {cluster: place % FOLDS for place, cluster in enumerate(clusters)}
            return held_out(self._streams(at)[layer], labels, np.array([part_of[prompt.cluster] for prompt in prompts]))

        return self.pairs.store.get((*self._place, "right", at, layer, control), measured)

    @torch.inference_mode()
    def _streams(self, at: str) -> Float[np.ndarray, "layers_and_one prompt d_model"]:
        """The stream at a role's position before every layer, and after the last."""

        def measured() -> np.ndarray:
            index, parts = [], []
            for batch in self.pairs.batches(self.examples()):
                rows = torch.arange(len(batch.tokens), device=batch.tokens.device)
                run = self.pairs.subject.run(batch.tokens)
                parts.append(as_array(run.resid[:, rows, batch.at(at)[:, 0]]).astype(np.float32))
                index += batch.index
            return np.concatenate(parts, axis=1)[:, np.argsort(index)]

        return self.pairs.store.get((*self._place, "streams", at), measured)

    @property
    def _place(self) -> tuple:
        task = self.pairs
        return ("probes of the answer", task.population, task.change, task.prepend_bos, task.seed)

    def _curves(self, at: str) -> dict[str, Any]:
        """Accuracy by layer, of the probes and of those on the control task, with intervals over clusters."""
        layers = range(self.pairs.subject.transformer.n_layers + 1)
        numbers = {cluster: number for number, cluster in enumerate({prompt.cluster: None for prompt in self.examples()})}
        clusters = [numbers[prompt.cluster] for prompt in self.examples()]
        curves = [
            curve(name, by_template(np.stack([self._right(at, layer, control=dealt) for layer in layers], 1), clusters))
            for name, dealt in (("probe", False), ("control task", True))
        ]
        return {
            "kind": "curves",
            "title": f"accuracy of probes of the answer at {at}, on clusters held out",
            "x": [*map(str, layers[:-1]), "end"],
            "x_axis": "before layer",
            "y_axis": "accuracy",
            "curves": curves,
            "marks": [],
        }
