"""Linear probes: what can be read off the residual stream at a role's position, layer by layer.

A probe is a logistic regression on standardised activations. It is judged on prompts of which it has seen no name (or, where it
is to tell names apart, no template), and against a control task, the same with labels dealt out at random: its *selectivity* is
its accuracy minus its accuracy there (after Hewitt and Liang 2019). That something can be read does not say that the model
reads it; for that there are interventions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Int

from circuit_claims.measure.figures import curve
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples, Shown
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.ioi import Prompt
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.measuring import in_order
from circuit_claims.tasks.metric import as_array
from circuit_claims.untested import Untested

#: Which name S is; which of the two names comes first, and so whether the first or the second is repeated; whether the second
#: clause's name has been said before (p_IOI) or not (p_ABC).
Label = Literal["identity", "position", "duplication"]
#: Prompts that probes are trained and tested on, and the parts that take turns in being held out.
PROMPTS, FOLDS = 360, 5
#: Names that a probe is to tell apart; the fewest names of a part that is held out.
IDENTITIES, FEWEST_NAMES = 8, 8
#: From here on, of the selectivity that a probe has that makes no mistake, something counts as readable.
READABLE = 0.5
DEALT = 2019


class Examples(NamedTuple):
    """What probes are trained and tested on.

    part: what a prompt is held out with. unchanged: of p_ABC, the prompts that its were made from; else the prompts themselves.
    """

    prompts: tuple[Prompt, ...]
    unchanged: tuple[Prompt, ...]
    labels: Int[np.ndarray, " prompt"]
    part: Int[np.ndarray, " prompt"]


@dataclass(frozen=True, repr=False)
class Probes:
    """Probes on the prompts of an IOI task."""

    ioi: IOI
    store: SessionStore = field(default_factory=SessionStore)

    def __repr__(self) -> str:
        """Short: pytest prints fixtures with a failure."""
        return f"probes on {self.ioi.subject.name}"

    def selectivity(self, task: Label, *, at: str, layer: int) -> Measurement:
        """How much more often a probe of the stream before `layer` is right than on the control task, prompt by prompt.

        layer: from 0, the embeddings, to the number of layers, the final stream.

        Raises ValueError for an unknown task, and Untested where the subject has too few names.
        """

        def take(n: int) -> Samples:
            where = "at the end" if layer == self.ioi.subject.transformer.n_layers else f"before layer {layer}"
            quantity = f"selectivity of a probe of S's {task} at {at} {where}"
            return self._samples(task, at, self._selectivity(task, at, layer), quantity, n)

        return Measurement(take, self.ioi.prepend_bos, PROMPTS)

    def gain(self, task: Label, *, at: str, first: int, last: int) -> Measurement:
        """By how much selectivity rises from before layer `first` to after layer `last`, in a model that tells IO from S.

        Noise hands names about, too: a random model's stream at END tells a probe who S is.
        """
        after, rise = self.selectivity(task, at=at, layer=last + 1), self._rise(task, at, first, last)
        name = f"gain in selectivity of a probe of S's {task} at {at}, layers {first} to {last}"

        def take(n: int) -> Samples:
            taken = after.take(n)
            return replace(taken, values=self._in_order(rise(), n), quantity=name, denominator=self._task(task, taken, n))

        return replace(after, take=take)

    def gained(self, task: Label, *, at: str, first: int, last: int, more_than: float) -> Measurement:
        """What claims on readability presuppose: such a gain of more than some bound, and that the model tells IO from S."""
        after, rise = self.selectivity(task, at=at, layer=last + 1), self._rise(task, at, first, last)

        def take(n: int) -> Samples:
            taken, values = after.take(n), self._in_order(rise() - more_than, n)
            return replace(taken, values=values, quantity="gain in selectivity", denominator=self._task(task, taken, n))

        return replace(after, take=take)

    def _task(self, task: Label, taken: Samples, n: int) -> Samples:
        """The logit difference on the prompts that were taken."""
        values, shown = self._in_order(self._logit_difference(task), n), Shown(self.ioi.metric.shows)
        return replace(taken, values=values, quantity="logit difference", unit="logits", drawn=None, shown=shown)

    def _rise(self, task: Label, at: str, first: int, last: int) -> Callable[[], Float[np.ndarray, " prompt"]]:
        return lambda: self._selectivity(task, at, last + 1) - self._selectivity(task, at, first)

    def _selectivity(self, task: Label, at: str, layer: int) -> Float[np.ndarray, " prompt"]:
        return self._right(task, at, layer) - self._right(task, at, layer, control=True)

    def _logit_difference(self, task: Label) -> Float[np.ndarray, " prompt"]:
        """logit(IO) − logit(S) on every prompt, or on the one that it was made from."""

        @torch.inference_mode()
        def measured() -> np.ndarray:
            return in_order(self.ioi.batches(self.examples(task).unchanged), self.ioi.value_of)

        return self.store.get(("logit difference", task), measured)

    def readable(self, task: Label) -> float:
        """Half of the selectivity of a probe that makes no mistake, which is one minus what guessing gives."""
        return READABLE * (1 - 1 / (IDENTITIES if task == "identity" else 2))

    def examples(self, task: Label) -> Examples:
        """The prompts, their labels, and what is held out together: names where labels allow it, else templates.

        Raises ValueError for an unknown task, and Untested where the subject has too few names.
        """
        if task not in get_args(Label):
            raise ValueError(f"unknown task {task!r}: use one of {', '.join(get_args(Label))}")
        return self.store.get(("examples", task), lambda: self._identity() if task == "identity" else self._blocks(task))

    def _identity(self) -> Examples:
        names = self.ioi.population.names[:IDENTITIES]
        if len(names) < IDENTITIES:
            raise Untested(f"{len(names)} names are too few to tell apart: give at least {IDENTITIES} with --names FILE")
        ioi = replace(self.ioi, population=replace(self.ioi.population, names=names))
        prompts = tuple(ioi.prompts(PROMPTS))
        labels = np.array([names.index(prompt.answers[1]) for prompt in prompts])
        return Examples(prompts, prompts, labels, np.array([prompt.template % FOLDS for prompt in prompts]))

    def _blocks(self, task: Label) -> Examples:
        """Each part has names of its own, and no prompt has a name of another part in any role."""
        names = self.ioi.population.names
        folds = min(FOLDS, len(names) // FEWEST_NAMES)
        if folds < 2:
            raise Untested(
                f"{len(names)} names are too few to hold some out: give at least {2 * FEWEST_NAMES} with --names FILE"
            )
        each, parts = PROMPTS // folds // (2 if task == "duplication" else 1), []
        for part in range(folds):
            ioi = replace(self.ioi, population=replace(self.ioi.population, names=names[part::folds]))
            for prompt in ioi.prompts(each):
                if task == "position":
                    parts.append((prompt, prompt, int(prompt.order == ioi.population.orders[0]), part))
                else:
                    parts += [(prompt, prompt, 1, part), (prompt.changed("ABC"), prompt, 0, part)]
        prompts, unchanged, labels, part = zip(*parts, strict=True)
        return Examples(prompts, unchanged, np.array(labels), np.array(part))

    def _right(self, task: Label, at: str, layer: int, *, control: bool = False) -> Float[np.ndarray, " prompt"]:
        """1 where the probe that has not seen a prompt's part is right about it."""

        def measured() -> np.ndarray:
            examples, streams = self.examples(task), self._streams(task, at)
            labels = examples.labels
            if control:
                labels = np.random.default_rng([self.ioi.seed, DEALT]).permutation(labels)
            return held_out(streams[layer], labels, examples.part)

        return self.store.get(("right", task, at, layer, control), measured)

    @torch.inference_mode()
    def _streams(self, task: Label, at: str) -> Float[np.ndarray, "layers_and_one prompt d_model"]:
        """The stream at a role's position before every layer, and after the last."""

        def measured() -> np.ndarray:
            index, parts = [], []
            for batch in self.ioi.batches(self.examples(task).prompts):
                rows = torch.arange(len(batch.tokens), device=batch.tokens.device)
                run = self.ioi.subject.run(batch.tokens)
                parts.append(as_array(run.resid[:, rows, batch.at(at)[:, 0]]).astype(np.float32))
                index += batch.index
            return np.concatenate(parts, axis=1)[:, np.argsort(index)]

        return self.store.get(("streams", task, at), measured)

    def _samples(self, task: Label, at: str, values: np.ndarray, quantity: str, n: int) -> Samples:
        prompts = self.examples(task).prompts
        order = self._in_order(np.arange(len(values)), n)
        return Samples(
            values[order],
            quantity,
            "share of prompts",
            clusters=[prompts[i].template for i in order],
            prompts=[prompts[i] for i in order],
            population=f"{self.ioi.about}; names or templates held out",
            drawn=self._curves(task, at),
        )

    def _in_order(self, values: np.ndarray, n: int) -> np.ndarray:
        """The first n in an order in which all parts, templates and labels take turns."""
        return values[np.random.default_rng([self.ioi.seed, DEALT, len(values)]).permutation(len(values))[:n]]

    def _curves(self, task: Label, at: str) -> dict[str, Any]:
        """Accuracy by layer, of the probes and of those on the control task, with intervals over templates."""
        layers = range(self.ioi.subject.transformer.n_layers + 1)
        templates = [prompt.template for prompt in self.examples(task).prompts]
        curves = [
            curve(name, by_template(np.stack([self._right(task, at, layer, control=dealt) for layer in layers], 1), templates))
            for name, dealt in (("probe", False), ("control task", True))
        ]
        return {
            "kind": "curves",
            "title": f"accuracy of probes of S's {task} at {at}, on names or templates held out",
            "x": [*map(str, layers[:-1]), "end"],
            "x_axis": "before layer",
            "y_axis": "accuracy",
            "curves": curves,
            "marks": [],
        }


def held_out(
    activations: Float[np.ndarray, "prompt d_model"], labels: Int[np.ndarray, " prompt"], part: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, " prompt"]:
    """1 where a logistic regression on the other parts is right about a prompt, 0 where it is wrong."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = np.zeros(len(labels))
    for held in np.unique(part):
        seen = part != held
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        right[~seen] = probe.fit(activations[seen], labels[seen]).predict(activations[~seen]) == labels[~seen]
    return right


def by_template(right: Float[np.ndarray, "prompt layer"], templates: Sequence[int]) -> Float[np.ndarray, "template layer"]:
    """The mean of every template, the unit of intervals."""
    return np.stack([right[np.asarray(templates) == template].mean(0) for template in sorted(set(templates))])
