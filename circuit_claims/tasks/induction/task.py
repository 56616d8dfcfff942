"""Induction: what a model makes of random tokens when they come again, and which heads it needs for that.

    induction.as_drawn_by("Main_Demo").loss_after()
    induction.ablate(card.heads("induction"), by="mean").share()
    induction.keys(senders, of=receivers).score_lost(receivers[0])

The loss on the first half is that of guessing; on the second, each token can be foreseen from the one before. Sources: Olsson
et al. 2022; TransformerLens's Main_Demo for the losses; Wang et al. 2022, section 3.3, for who reads whom.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.run import Run
from circuit_claims.heads import Head
from circuit_claims.measure.figures import curve
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.measure.samples import Samples, Shown
from circuit_claims.tasks.induction.repeated_tokens import AT_ONCE, SEQUENCES, RepeatedTokens
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.operations.reference_means import mean_outputs
from circuit_claims.untested import Untested

#: Streams of random tokens besides the repeated one: those that a mean is taken over, and those whose heads' outputs
#: are patched in.
REFERENCE, OTHERS = 2023, 2024
#: Sequences that a mean is taken over.
REFERENCE_SIZE = 16
#: What the share that is lost is a share of.
OF_THE_DROP = "share of the drop in loss"

By = Literal["mean", "zero"]


@dataclass(frozen=True, repr=False)
class Induction(RepeatedTokens):
    """Repeated random tokens, the loss on them, and interventions on all of their positions."""

    # Loss

    def loss_before(self) -> Measurement:
        """The mean loss on the first half, from its second token on, in nats a token."""
        return self._loss("loss on the first half", slice(0, self.half - 1))

    def loss_at_repeat(self) -> Measurement:
        """The loss on the first token of the second half, which nothing tells that it comes again, in nats."""
        return self._loss("loss on the first token that is repeated", slice(self.half - 1, self.half))

    def loss_after(self) -> Measurement:
        """The mean loss on the second half, from its second token on, in nats a token."""
        return self._loss("loss on the second half", slice(self.half, None))

    def drop(self) -> Measurement:
        """How much lower the loss is on the second half than on the first, in nats a token."""
        return self.loss_before().minus(self.loss_after(), f"drop in loss on {self.about}", "nats")

    def halved(self) -> Measurement:
        """Half the loss on the first half minus the loss on the second, in nats: above zero where the repeat halves the loss.

        What is said of how a model foresees the repeat presupposes that it does; a drop of a little is on any weights.
        """
        by_half = [self.loss_before(), self.loss_after()]
        name = f"half the loss less the loss, {self.about}"
        halved = combined(by_half, lambda before, after: before / 2 - after, name, "nats")
        return halved.showing(Shown("the repeat halves the loss"))

    def _loss(self, what: str, places: slice) -> Measurement:
        def take(n: int) -> Samples:
            losses = self._losses()[:n]
            quantity = f"{what}, {self.about}"
            return Samples(losses[:, places].mean(1), quantity, "nats", range(len(losses)), drawn=self._curves())

        return Measurement(take, self.prepend_bos, SEQUENCES)

    def _losses(self) -> Float[np.ndarray, "sequence place"]:
        """The loss of every token but the first."""
        return self.store.get(("losses", *self._key), lambda: self._by_chunks(lambda run, _: self.losses_of(run)))

    def losses_of(self, run: Run, edits: Sequence[Edit] = ()) -> Float[np.ndarray, "sequence place"]:
        """The loss of every token of a run but the first (and BOS), in nats, under edits that are made together."""
        model, first = self.subject.transformer, int(self.prepend_bos)
        stream, parts = model.final_stream(run, edits), []
        for streams, tokens in zip(stream[:, first:-1], run.tokens[:, first + 1 :], strict=True):
            logits = model.logits(streams).float()
            parts.append(torch.nn.functional.cross_entropy(logits, tokens, reduction="none"))
        return as_array(torch.stack(parts))

    @torch.inference_mode()
    def _by_chunks(self, measure: Callable[[Run, list[int]], np.ndarray]) -> Float[np.ndarray, "sequence ..."]:
        """`measure(run, numbers)` on some sequences at a time: their run, and which they are."""
        tokens, parts = self._tokens(), []
        for numbers in torch.arange(SEQUENCES).split(AT_ONCE):
            parts.append(measure(self.subject.run(tokens[numbers]), numbers.tolist()))
        return np.concatenate(parts)

    def _curves(self, **under: Float[np.ndarray, "sequence place"]) -> dict[str, Any]:
        """Loss by position, of the model as it is, and under what is named."""
        curves = [curve(label.replace("_", " "), losses) for label, losses in {"untouched": self._losses(), **under}.items()]
        return {
            "kind": "curves",
            "title": f"loss by position, {self.about}",
            "x": [str(place) for place in range(1, 2 * self.half)],
            "x_axis": "token",
            "y_axis": "loss (nats)",
            "curves": curves,
            "marks": [{"x": self.half - 1, "label": "the repeat begins"}],
        }

    # Interventions

    def ablate(self, heads: Sequence[Head], *, by: By = "mean") -> "Ablated":
        """Knock heads out at all positions.

        by: "mean" puts in each position's mean over random tokens that nothing repeats, "zero" nothing.
        """
        return Ablated(self, tuple(heads), by)

    def keys(self, senders: Sequence[Head], *, of: Sequence[Head]) -> "Keys":
        """Path patching of senders into the keys of the heads `of`, at all positions, from other random tokens.

        Raises Untested where no sender comes before any of these.
        """
        reached = tuple(head for head in of if any(sender.layer < head.layer for sender in senders))
        if not reached:
            raise Untested(f"none of {head_list(senders)} comes before any of {head_list(of)}: no key of theirs reads it")
        return Keys(self, tuple(senders), reached)

    def others_at_random(self, heads: Sequence[Head], sequence: int) -> tuple[Head, ...]:
        """As many heads of the same layers, none of them among `heads`, drawn anew for every sequence.

        Raises Untested where a layer has too few.
        """
        random, drawn = np.random.default_rng([self.seed, OTHERS, sequence]), []
        for layer in sorted({head.layer for head in heads}):
            taken = {head.head for head in heads if head.layer == layer}
            there = [head for head in range(self.subject.transformer.n_heads) if head not in taken]
            if len(there) < len(taken):
                raise Untested(f"layer {layer} has {len(there)} heads besides {head_list(heads)}: too few to compare with")
            drawn += [Head(layer, int(head)) for head in random.choice(there, len(taken), replace=False)]
        return tuple(drawn)

    @torch.inference_mode()
    def reference_means(self) -> Float[Tensor, "layer pos head d_head"]:
        """Every head's mean output at each position, over random tokens of which none is repeated on purpose."""

        def measured() -> Tensor:
            model, bos = self.subject.transformer, [[self.subject.tokenizer.bos_token_id]] * REFERENCE_SIZE
            tokens = self._draw(REFERENCE, (REFERENCE_SIZE, 2 * self.half))
            if self.prepend_bos:
                tokens = torch.cat([torch.tensor(bos), tokens], dim=1)
            return mean_outputs(model, tokens.to(self.subject.device), "z", AT_ONCE)

        return self.store.get(("reference means", *self._key), measured)

    def other_runs(self, numbers: Sequence[int]) -> Run:
        """The runs over other repeated random tokens, that outputs are patched in from."""
        return self.subject.run(self._tokens(OTHERS)[numbers])


@dataclass(frozen=True)
class Changed(ABC):
    """Something that is done to the heads of a task at all positions, and what becomes of the loss on the second half."""

    task: Induction

    @property
    @abstractmethod
    def name(self) -> str:
        """What is done, in words."""

    @abstractmethod
    def losses(self, *, at_random: bool = False) -> Float[np.ndarray, "sequence place"]:
        """The loss of every token but the first; at_random: with as many other heads of the same layers in their place."""

    def change(self, *, at_random: bool = False) -> Measurement:
        """By how much the loss on the second half rises, in nats a token."""
        task = self.task
        who = f"{self.name}, with other heads of the same layers in their place" if at_random else self.name

        def take(n: int) -> Samples:
            under, before = self.losses(at_random=at_random)[:n], task._losses()[:n]
            values = (under - before)[:, task.half :].mean(1)
            label = {"other_heads_in_their_place" if at_random else "changed": under}
            return Samples(values, f"rise in loss {who}", "nats", range(len(values)), drawn=task._curves(**label))

        return Measurement(take, task.prepend_bos, SEQUENCES)

    def share(self) -> Measurement:
        """The rise as a share of what the repeat brings the loss down by, in a model whose loss it halves."""
        return self._share(self.change(), f"share of the drop in loss that is lost {self.name}")

    def share_over_chance(self) -> Measurement:
        """By how much the rise exceeds that with as many other heads of the same layers, as such a share."""

        def take(n: int) -> Samples:
            drawn = self.task._curves(changed=self.losses(), other_heads_in_their_place=self.losses(at_random=True))
            return replace(excess.take(n), drawn=drawn)

        quantity = f"share of the drop in loss that is lost {self.name}, more than with other heads of the same layers"
        excess = self.change().minus(self.change(at_random=True), quantity, "nats")
        return self._share(replace(excess, take=take), quantity)

    def _share(self, part: Measurement, quantity: str) -> Measurement:
        return part.share_by_prompt_of(self.task.drop(), quantity, OF_THE_DROP).presupposing(self.task.halved())


@dataclass(frozen=True)
class Ablated(Changed):
    """Heads knocked out at all positions.

    Raises ValueError for an unknown ablation.
    """

    heads: tuple[Head, ...]
    by: By

    def __post_init__(self) -> None:
        if self.by not in ("mean", "zero"):
            raise ValueError(f"unknown ablation {self.by!r}: use mean or zero")

    @property
    def name(self) -> str:
        """What is done, in words."""
        over = f" (over {REFERENCE_SIZE} sequences without a repeat)" if self.by == "mean" else ""
        return f"after {self.by} ablation{over} of {head_list(self.heads)}"

    def losses(self, *, at_random: bool = False) -> Float[np.ndarray, "sequence place"]:
        """The loss of every token but the first, with the heads, or others at random, knocked out."""
        task = self.task

        def measure(run: Run, numbers: list[int]) -> np.ndarray:
            sets = [task.others_at_random(self.heads, i) if at_random else self.heads for i in numbers]
            return task.losses_of(run, self.edits(run.tokens, sets))

        key = ("ablated", self.heads, self.by, at_random, *task._key)
        return task.store.get(key, lambda: task._by_chunks(measure))

    def edits(self, tokens: Int[Tensor, "sequence pos"], sets: Sequence[Sequence[Head]]) -> list[Edit]:
        """The edits that knock out, in each sequence, its own set of heads."""
        model = self.task.subject.transformer
        shape = (*tokens.shape, model.n_heads)
        edits = []
        for layer in sorted({head.layer for heads in sets for head in heads}):
            keep: Bool[Tensor, "sequence pos head"] = torch.ones(shape, dtype=torch.bool, device=tokens.device)
            for row, heads in enumerate(sets):
                keep[row, :, [head.head for head in heads if head.layer == layer]] = False
            value = model.W_E.new_zeros(*shape, model.d_head)
            if self.by == "mean":
                value = value + self.task.reference_means()[layer]
            edits.append(Edit(layer, "z", value, keep=keep))
        return edits


@dataclass(frozen=True)
class Keys(Changed):
    """Senders path-patched into the keys of receivers, at all positions: the way by which these know what stood before a token.

    The senders' outputs come from other repeated random tokens. receivers: those that come after some sender.
    """

    senders: tuple[Head, ...]
    receivers: tuple[Head, ...]

    @property
    def name(self) -> str:
        """What is done, in words."""
        return f"by the paths from {head_list(self.senders)} into the keys of {head_list(self.receivers)}"

    def score_lost(self, head: Head) -> Measurement:
        """How much of one receiver's induction score is lost when its keys alone read the senders of other tokens: a share."""
        return self._lost(head).share_of(self._score(head), f"share of the induction score of {head} lost {self._into(head)}")

    def score_lost_over_chance(self, head: Head) -> Measurement:
        """How much more of it is lost than through as many other heads of the senders' layers, as a share of the score."""
        quantity = f"share of the induction score of {head} lost {self._into(head)}, more than through other heads"
        return (
            self._lost(head)
            .minus(self._lost(head, at_random=True), quantity, "probability")
            .share_of(self._score(head), quantity)
        )

    def losses(self, *, at_random: bool = False) -> Float[np.ndarray, "sequence place"]:
        """The loss of every token but the first, with all receivers' keys patched."""

        def measure(run: Run, numbers: list[int]) -> np.ndarray:
            if not at_random:
                return self.task.losses_of(run, self._edits(run, numbers, self.receivers))
            rows = [self._edits(_one(run, row), [i], self.receivers, True) for row, i in enumerate(numbers)]
            return np.concatenate([self.task.losses_of(_one(run, row), edits) for row, edits in enumerate(rows)])

        key = ("keys", self.senders, self.receivers, at_random, *self.task._key)
        return self.task.store.get(key, lambda: self.task._by_chunks(measure))

    def _into(self, head: Head) -> str:
        return f"by the paths from {head_list(self.senders)} into its keys, on {self.task.about}"

    def _score(self, head: Head) -> Measurement:
        return self.task.score_of(head, "induction")

    def _lost(self, head: Head, *, at_random: bool = False) -> Measurement:
        task = self.task

        def patched(run: Run, numbers: list[int]) -> np.ndarray:
            if at_random:
                rows = [(self._edits(_one(run, row), [i], [head], True), _one(run, row)) for row, i in enumerate(numbers)]
            else:
                rows = [(self._edits(run, numbers, [head]), run)]
            return np.concatenate([as_array(self._induction(one, edits, head)) for edits, one in rows])

        def take(n: int) -> Samples:
            key = ("score lost", self.senders, head, at_random, *task._key)
            after = task.store.get(key, lambda: task._by_chunks(patched))[:n]
            before = self._score(head).take(n)
            return replace(before, values=before.values - after, quantity=f"induction score of {head} lost")

        return Measurement(take, task.prepend_bos, SEQUENCES)

    def _induction(self, run: Run, edits: Sequence[Edit], head: Head) -> Float[Tensor, " sequence"]:
        task, period, first = self.task, self.task.half, int(self.task.prepend_bos)
        model = task.subject.transformer
        if edits:
            pattern = model.pattern_with_keys(run, edits[0])
        else:  # nothing of these senders reaches it
            pattern = model.attention(head.layer, run.resid[head.layer]).pattern[:, head.head]
        queries = torch.arange(first + period, run.tokens.shape[1], device=pattern.device)
        return pattern[:, queries, queries - period + 1].mean(-1)

    def _edits(self, run: Run, numbers: list[int], of: Sequence[Head], at_random: bool = False) -> list[Edit]:
        senders = self.task.others_at_random(self.senders, numbers[0]) if at_random else self.senders
        positions = torch.arange(run.tokens.shape[1], device=run.tokens.device).expand(run.tokens.shape)
        receivers = Receivers(tuple(of), "k")
        return self.task.subject.transformer.receiver_inputs(run, self.task.other_runs(numbers), senders, receivers, positions)


def _one(run: Run, row: int) -> Run:
    return Run(run.tokens[row : row + 1], run.resid[:, row : row + 1])
