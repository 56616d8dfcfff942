"""A task of one prompt that a user gave: so experiments are made of what the chapters' tasks measure with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.reading import Prompt, Token
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.source import Corruptions, FixedPrompt
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, PROBABILITY, Metric
from circuit_claims.tasks.operations.attribution_patching import AttributionPatching
from circuit_claims.tasks.operations.causal_tracing import CausalTracing, Corruption
from circuit_claims.tasks.operations.direct_attribution import DirectAttribution
from circuit_claims.tasks.operations.logit_lens import LogitLens
from circuit_claims.tasks.operations.patching import Patching

#: What the pair's other prompt is called.
CORRUPTED = "interchange"


@dataclass(frozen=True)
class GivenPrompt:
    """The population of a single prompt: nothing is drawn from it."""

    corruptions: ClassVar[Corruptions] = Corruptions.only(CORRUPTED)
    roles: ClassVar[tuple[str, ...]] = ("END",)

    def stream(self, seed: int) -> Iterator[Any]:
        """Raises ValueError: there is one prompt, which was given."""
        raise ValueError("a single experiment has the prompt that it was given, and no others")

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompt this is, in words."""
        return "the given prompt"


@dataclass(frozen=True, repr=False)
class OnePrompt(LogitLens, Patching, AttributionPatching, DirectAttribution, CausalTracing):
    """One prompt, and for patching another of as many tokens.

    clean, corrupted: both as the model reads them; answer, foil: the two tokens whose logits are compared; contrast: whether
    there is a foil, or the answer's probability is measured. about: the first and the last token that noise is put on; at: the
    position where heads are patched.
    """

    clean: Prompt | None = None
    corrupted_prompt: Prompt | None = None
    answer: Token | None = None
    foil: Token | None = None
    about_tokens: tuple[int, int] | None = None
    at: int = -1

    @classmethod
    def of(
        cls,
        model: Subject,
        clean: Prompt,
        *,
        corrupted: Prompt | None = None,
        answer: Token | None = None,
        foil: Token | None = None,
        about: tuple[int, int] | None = None,
        at: int = -1,
        seed: int = 0,
    ) -> Self:
        """Raises ExperimentError where the two prompts cannot be paired position by position."""
        if corrupted is not None:
            _can_be_paired(model, clean, corrupted)
        pairs = () if corrupted is None else ((CORRUPTED, corrupted.text),)
        words = ("" if answer is None else answer.text, "" if foil is None else foil.text)
        return cls(
            subject=model,
            seed=seed,
            chunk=1,
            population=GivenPrompt(),
            prepend_bos=clean.prepend_bos,
            fixed=(FixedPrompt(clean.text, words, corrupted=pairs),),
            clean=clean,
            corrupted_prompt=corrupted,
            answer=answer,
            foil=foil,
            about_tokens=about,
            at=at,
        )

    def own_metric(self) -> Metric:
        """The difference of two logits where there is a foil, else the answer's probability."""
        return PROBABILITY if self.foil is None else LOGIT_DIFFERENCE

    def batches(self, prompts: Sequence[Any]) -> list[Batch]:
        """The tokens as they were read; whatever the answers are, they are tokens already."""
        assert self.clean is not None
        read = {prompt.text: prompt for prompt in (self.clean, self.corrupted_prompt) if prompt is not None}
        return [self._batch(i, prompt, read[prompt.text]) for i, prompt in enumerate(prompts)]

    def _batch(self, index: int, prompt: Any, read: Prompt) -> Batch:
        device, length = self.subject.device, len(read)
        where = {"END": length - 1, "AT": self.at % length}
        if self.about_tokens is not None:
            where |= dict(zip(("first subject token", "last subject token"), self.about_tokens, strict=True))
        answers = [0 if token is None else token.id for token in (self.answer, self.foil or self.answer)]
        return Batch(
            prompts=(prompt,),
            tokens=torch.tensor([read.ids], device=device),
            positions={role: torch.tensor([at], device=device) for role, at in where.items()},
            answers=torch.tensor([answers], device=device),
            index=(index,),
        )

    def batch(self) -> Batch:
        """The clean prompt."""
        return self.batches(self.fixed)[0]

    @property
    def spread(self) -> float:
        """The standard deviation of all numbers in the embeddings of the tokens that noise is put on (at least two numbers)."""
        assert self.clean is not None and self.about_tokens is not None
        first, last = self.about_tokens
        tokens = torch.tensor(self.clean.ids[first : last + 1], device=self.subject.device)
        return float(self.subject.transformer.token_embeddings(tokens).double().std())

    def _check(self, corruption: str) -> None:
        """A given prompt says where its subject stands, where it is asked for."""

    def _score(self, batch: Batch, corruption: Corruption, resid: Float[Tensor, "*n prompt d_model"]) -> np.ndarray:
        return self.value_from(resid, batch)


def _can_be_paired(model: Subject, clean: Prompt, corrupted: Prompt) -> None:
    if len(clean) != len(corrupted):
        raise ExperimentError(
            f"{clean.text!r} and {corrupted.text!r} are {len(clean)} and {len(corrupted)} tokens for {model.name}, and are "
            "paired position by position: word them with equally many"
        )
    if clean.ids == corrupted.ids:
        raise ExperimentError(f"the two prompts are the same tokens, {clean.text!r}: give a corrupted one that differs")
