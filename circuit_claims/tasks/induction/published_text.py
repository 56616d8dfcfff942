"""A text that somebody published numbers on: the loss on it, and what heads do on it. One text is no sample: all is exact.

The detector's scores are those of TransformerLens's `head_detector` by its measure "mul": the share of a head's attention that
goes where a head of the kind would look.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.cards.schema import PublishedTable
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.run import Run
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Samples
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import as_array
from circuit_claims.untested import Untested

Kind = Literal["previous token", "duplicate token", "induction"]


@dataclass(frozen=True)
class PublishedText:
    """One text on one subject, with or without BOS as it was published."""

    subject: Subject
    text: str
    prepend_bos: bool = True

    @cached_property
    def tokens(self) -> Int[Tensor, "one pos"]:
        """The text's tokens.

        Raises Untested where the tokenizer cannot carry the text, or has no BOS where it is asked for.
        """
        tokenizer = self.subject.tokenizer
        ids = tokenizer(self.text, add_special_tokens=False).input_ids
        if tokenizer.decode(ids, clean_up_tokenization_spaces=False) != self.text:
            raise Untested("this text is published for GPT-2's tokenizer, and this subject's does not give it back unchanged")
        if self.prepend_bos and tokenizer.bos_token_id is None:
            raise Untested("this text was published with BOS, and this subject's tokenizer has none")
        bos = [tokenizer.bos_token_id] if self.prepend_bos else []
        return torch.tensor([bos + ids], device=self.subject.device)

    def loss(self) -> Measurement:
        """The mean loss on all of its tokens but the first, in nats a token."""
        return self._number("loss on the published text", lambda run: self._loss(run, ()))

    def loss_without_value(self, head: Head) -> Measurement:
        """The same, with one head's values set to zero at all positions."""

        def measure(run: Run) -> float:
            value = run.resid.new_zeros(*run.tokens.shape, self.subject.transformer.d_head)
            return self._loss(run, [Edit(head.layer, "v", value, head.head)])

        return self._number(f"loss on the published text with the values of {head} at zero", measure)

    def detected(
        self,
        kind: Kind,
        *,
        exclude_bos: bool = False,
        exclude_current: bool = False,
        published: PublishedTable | None = None,
    ) -> Measurement:
        """Of every head's attention, the share that goes where a head of this kind looks: a grid layer × head.

        previous token: to the token before. duplicate token: to earlier tokens that are the same. induction: to those that
        come after these. exclude_bos: attention to the first position is not counted; exclude_current: nor that of a token to
        itself. published: scores to be drawn beside what is found.

        Raises ValueError for an unknown kind.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"unknown kind {kind!r}: use one of {', '.join(get_args(Kind))}")
        model = self.subject.transformer

        def take(n: int) -> Grid:
            run, wanted = self._run(), detection_pattern(self.tokens[0], kind)
            counted = torch.ones_like(wanted)
            if exclude_bos:
                counted[:, 0] = 0
            if exclude_current:
                counted.fill_diagonal_(0)
            scores = []
            for layer in range(model.n_layers):
                pattern = model.attention(layer, run.resid[layer]).pattern[0] * counted
                scores.append(as_array((pattern * wanted).sum((-2, -1)) / pattern.sum((-2, -1))))
            without = [what for what, is_out in (("BOS", exclude_bos), ("the token itself", exclude_current)) if is_out]
            left_out = f", {' and '.join(without)} left out" if without else ""
            return Grid.of_heads(
                values=np.stack(scores)[None],
                quantity=f"share of attention that goes where a {kind} head looks{left_out}",
                unit="share of attention",
                clusters=[0],
                marks=self.subject.card.named_heads,
                exact=True,
                published=None if published is None else np.array(published.values),
            )

        return Measurement(take, self.prepend_bos, 1)

    @torch.inference_mode()
    def _run(self) -> Run:
        return self.subject.run(self.tokens)

    @torch.inference_mode()
    def _loss(self, run: Run, edits: list[Edit] | tuple[()]) -> float:
        logits = self.subject.transformer.logits(self.subject.transformer.final_stream(run, edits)[0, :-1]).float()
        return float(F.cross_entropy(logits, run.tokens[0, 1:]))

    def _number(self, quantity: str, measure: Callable[[Run], float]) -> Measurement:
        def take(n: int) -> Samples:
            return Samples(np.array([measure(self._run())]), quantity, "nats", [0], exact=True)

        return Measurement(take, self.prepend_bos, 1)


def detection_pattern(tokens: Int[Tensor, " pos"], kind: Kind) -> Float[Tensor, "query key"]:
    """1 where a head of this kind would look, as TransformerLens's `head_detector` has it."""
    if kind == "previous token":
        return torch.ones(len(tokens), len(tokens), device=tokens.device).tril(-1).triu(-1)
    again = (tokens[:, None] == tokens[None]).float()
    if kind == "duplicate token":
        return again.tril(-1)
    # The token after an earlier one that is the same; the current token itself may be that token.
    return F.pad(again.tril(-1)[:, :-1], (1, 0)).tril()
