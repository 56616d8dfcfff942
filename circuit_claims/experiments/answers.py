"""The tokens whose logits are measured after a prompt: the answer, and another one, the foil, where it is compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.reading import Prompt, Token, answer_token, blank_hint, space_hint, token_of
from circuit_claims.subjects.subject import Subject


@dataclass(frozen=True)
class Answers:
    """right: the answer; foil: another token, or None; hints: about spaces that are probably missing, or too many."""

    right: Token
    foil: Token | None
    hints: tuple[str, ...]

    @property
    def quantity(self) -> str:
        """What is measured, in words: a difference of logits where there is a foil, else the answer's probability."""
        return f"probability of {self.right}" if self.foil is None else f"logit difference {self.right} over {self.foil}"

    @property
    def unit(self) -> str:
        """Of that quantity."""
        return "probability" if self.foil is None else "logits"


def read_answers(
    model: Subject, prompt: Prompt, right: str | None, foil: str | None, *, first: bool = False, called: str = "answer"
) -> Answers:
    """The answers to a prompt; right: None for the model's own, its likeliest next token.

    first: a text of several tokens is compared by its first. called: what the right one is, as errors say it.

    Raises ExperimentError where one cannot be read, or the two are the same token.
    """
    given = [(text, what) for text, what in ((right, called), (foil, "foil")) if text is not None]
    answer = own_answer(model, prompt.ids) if right is None else answer_token(model, right, called, first=first)
    other = None if foil is None else answer_token(model, foil, "foil", first=first)
    if answer == other:
        raise ExperimentError(f"the {called} and the foil are the same token, {answer}: give two that differ")
    hints = (blank_hint(prompt.text), *(space_hint(model, text, what) for text, what in given))
    return Answers(answer, other, tuple(filter(None, hints)))


def own_answer(model: Subject, ids: Sequence[int]) -> Token:
    """The model's own answer: the likeliest next token."""
    return token_of(model, int(model.last_logits(torch.tensor([list(ids)], device=model.device))[0].argmax()))
