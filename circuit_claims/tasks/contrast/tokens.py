"""Answers and marks as tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from circuit_claims.prompts.batch import Batch, TokenizationError
from circuit_claims.prompts.contrasts.prompt import Answer, ContrastPrompt
from circuit_claims.prompts.word_tokens import inside, is_unknown
from circuit_claims.subjects.subject import Subject

#: The first tokens of answers, tokenizer by tokenizer.
_FIRST: WeakKeyDictionary[Any, dict[tuple[str, bool], int]] = WeakKeyDictionary()


def first_token(tokenizer: Any, answer: Answer, *, space: bool) -> int:
    """The token that an answer begins with, inside a sentence; the number of a token is that token.

    space: whether it follows a space; a space that it was given with counts once.

    Raises TokenizationError where the tokenizer does not know it.
    """
    if isinstance(answer, int):
        return answer
    known = _FIRST.setdefault(tokenizer, {})
    if (answer, space) not in known:
        text = f" {answer.strip()}" if space else answer
        ids = inside(tokenizer, text)
        if not ids:
            raise TokenizationError(f"the answer {answer!r} is joined with what stands before it")
        if is_unknown(tokenizer, ids[0], text.strip()):
            raise TokenizationError(f"the answer {answer!r} is no word of this tokenizer")
        known[answer, space] = ids[0]
    return known[answer, space]


def as_read(batch: Batch, subject: Subject, token: Callable[[Any, Answer], int], *, skipped: int) -> Batch:
    """A batch with its marks as roles and its lists of answers as tokens; skipped: leading tokens that are not the prompt's.

    Raises TokenizationError where the tokenizer does not know a word of a prompt, where the model does not read as many
    tokens, or where an answer and a foil begin with the same token.
    """
    tokenizer = subject.tokenizer
    for unlike in (batch.tokens[:, skipped:] == tokenizer.unk_token_id).any(1).nonzero()[:1, 0].tolist():
        if tokenizer.unk_token not in batch.prompts[unlike].text:
            raise TokenizationError(f"its tokenizer does not know all words of {batch.prompts[unlike].text!r}")
    engine = subject.choice.engine
    if engine is not None and batch.tokens.shape[1] > engine.n_ctx:
        raise TokenizationError(
            f"row {batch.prompts[0].row} has {batch.tokens.shape[1]} tokens, and the model reads {engine.n_ctx} at most"
        )
    found = [_tokens_of(prompt, tokenizer, token) for prompt in batch.prompts]
    marks = {name for name, _, _ in batch.prompts[0].phrases}
    positions = {name: batch.positions[f"last {name} token"] for name in marks}
    several = any(len(right) > 1 or len(wrong) > 1 for right, wrong in found)
    ordered = {role: where for role, where in {**positions, **batch.positions}.items()}
    if not several:
        return replace(batch, positions=ordered)
    width = max(len(right) + len(wrong) for right, wrong in found)
    compared, weights = [], []
    for right, wrong in found:
        empty = width - len(right) - len(wrong)
        compared.append([*right, *wrong, *[right[0]] * empty])
        weights.append([*[1 / len(right)] * len(right), *[-1 / len(wrong)] * len(wrong), *[0.0] * empty])
    device = batch.tokens.device
    return replace(
        batch,
        positions=ordered,
        compared=torch.tensor(compared, device=device),
        weights=torch.tensor(weights, device=device),
    )


def _tokens_of(prompt: ContrastPrompt, tokenizer: Any, token: Callable[[Any, Answer], int]) -> tuple[list[int], list[int]]:
    """The answers' and the foils' tokens, each once."""
    right, wrong = ({token(tokenizer, answer): answer for answer in side} for side in (prompt.right, prompt.wrong))
    for both in sorted(right.keys() & wrong.keys()):
        raise TokenizationError(
            f"in row {prompt.row} the answer {right[both]!r} and the foil {wrong[both]!r} begin with the same token "
            f"({tokenizer.decode([both])!r}), and an answer of several tokens is compared by its first: give others"
        )
    return list(right), list(wrong)
