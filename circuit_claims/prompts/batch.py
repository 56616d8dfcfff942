"""Prompts as tokens: batches of one length, so that nothing is ever padded, with the position of every role."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuit_claims.prompts.ioi import ROLES
from circuit_claims.prompts.source import AnyPrompt
from circuit_claims.prompts.word_tokens import inside, is_unknown
from circuit_claims.time_spent import spent_on


class TokenizationError(ValueError):
    """A prompt that this tokenizer cannot carry; the message says which and why."""


@dataclass(frozen=True)
class Batch:
    """Prompts of one token length.

    positions: for each role its token position in each prompt, `[prompt]`.
    prompts: of the kind that was given.
    answers: the token ids of IO and S, `[prompt, 2]`.
    index: where each prompt stood in the list that was given.
    compared, weights: where lists of answers are compared with lists of foils, all of their tokens, `[prompt, token]`, and what
        each counts in the logit difference: 1/n of n answers, −1/m of m foils, 0 where a shorter list is filled up.
    """

    prompts: tuple[Any, ...]
    tokens: Int[Tensor, "prompt pos"]
    positions: dict[str, Int[Tensor, " prompt"]]
    answers: Int[Tensor, "prompt 2"]
    index: tuple[int, ...]
    compared: Int[Tensor, "prompt token"] | None = None
    weights: Float[Tensor, "prompt token"] | None = None

    @property
    def tokens_compared(self) -> Int[Tensor, "prompt token"]:
        """The tokens whose logits are compared: the two answers, or all of the lists."""
        return self.answers if self.compared is None else self.compared

    @property
    def counted(self) -> Float[Tensor, "prompt token"]:
        """What each of `tokens_compared` counts in the logit difference."""
        if self.weights is not None:
            return self.weights
        return torch.tensor([1.0, -1.0], device=self.answers.device).expand(len(self.answers), 2)

    def is_answer(self, tokens: Int[Tensor, " prompt"]) -> Bool[Tensor, " prompt"]:
        """Whether each prompt's token is its answer, or one of its answers."""
        return ((tokens[:, None] == self.tokens_compared) & (self.counted > 0)).any(1)

    def of_rows(self, rows: Sequence[int]) -> "Batch":
        """The same of some of its prompts."""
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in rows),
            tokens=self.tokens[rows],
            positions={role: where[rows] for role, where in self.positions.items()},
            answers=self.answers[rows],
            index=tuple(self.index[row] for row in rows),
            compared=None if self.compared is None else self.compared[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    def at(self, *roles: str) -> Int[Tensor, "prompt role"]:
        """The positions of several roles, side by side.

        Raises KeyError, with the roles there are, for an unknown one.
        """
        for role in roles:
            if role not in self.positions:
                raise KeyError(f"unknown role {role!r}: the roles are {', '.join(self.positions)}")
        return torch.stack([self.positions[role] for role in roles], dim=1)


#: The ids of names, tokenizer by tokenizer: every batch asks for those of its answers.
_NAME_TOKENS: WeakKeyDictionary = WeakKeyDictionary()


def name_token(tokenizer, name: str) -> int:
    """The id of a name within a sentence (with the space before it).

    Raises TokenizationError where it is not one token, or is unknown to the tokenizer.
    """
    known = _NAME_TOKENS.setdefault(tokenizer, {})
    if name in known:
        return known[name]
    known[name] = _only_token(tokenizer, " " + name, name, f"the name {name!r}")
    return known[name]


def bare_token(tokenizer, text: str) -> int:
    """The id of a text that follows without a space, as the last digits of a year or the next letter of an acronym do.

    Raises TokenizationError where it is not one token, or is unknown to the tokenizer.
    """
    return _only_token(tokenizer, text, text, repr(text))


def _only_token(tokenizer, text: str, word: str, called: str) -> int:
    ids = inside(tokenizer, text)
    if len(ids) != 1 or is_unknown(tokenizer, ids[0], word):
        what = "unknown" if len(ids) == 1 else f"{len(ids)} tokens" if ids else "joined with what stands before it"
        raise TokenizationError(f"{called} is not one token for this tokenizer ({what})")
    return ids[0]


@spent_on("tokenizing prompts")
def make_batches(
    tokenizer,
    prompts: Sequence[AnyPrompt],
    *,
    prepend_bos: bool,
    device: str = "cpu",
    answer_token: Callable[..., int] = name_token,
) -> list[Batch]:
    """Tokenize prompts and group them by length.

    answer_token: from the tokenizer and an answer to its id; a name's, with the space before it, unless another is given.

    Roles come from where the prompt says its names stand, through the tokenizer's character offsets; S1+1 is the token after
    S1, END the last. What may be several tokens (`phrases`) has its first and its last one as roles.

    Raises TokenizationError where a name is not one token, and where BOS is asked of a tokenizer without one.
    """
    if prepend_bos and tokenizer.bos_token_id is None:
        raise TokenizationError("this tokenizer has no BOS token, and these prompts begin with one")
    encoded = tokenizer([p.text for p in prompts], add_special_tokens=False, return_offsets_mapping=True)
    shift = int(prepend_bos)
    ids_of = {name: answer_token(tokenizer, name) for name in {name for p in prompts for name in p.answers}}
    groups: dict[int, list[tuple[int, list[int], dict[str, int]]]] = {}
    for i, (prompt, ids, offsets) in enumerate(zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True)):
        where = {}
        for role, begin, end in prompt.spans:
            covering = [t for t, (a, b) in enumerate(offsets) if a < end and b > begin]
            if len(covering) != 1:
                raise TokenizationError(f"{prompt.text[begin:end]!r} ({role}) is {len(covering)} tokens in {prompt.text!r}")
            where[role] = covering[0] + shift
        for what, begin, end in getattr(prompt, "phrases", ()):
            covering = [t for t, (a, b) in enumerate(offsets) if a < end and b > begin]
            where[f"first {what} token"], where[f"last {what} token"] = covering[0] + shift, covering[-1] + shift
        if "S1" in where:
            where["S1+1"] = where["S1"] + 1
        where["END"] = len(ids) - 1 + shift
        tokens = ([tokenizer.bos_token_id] if prepend_bos else []) + list(ids)
        groups.setdefault(len(tokens), []).append((i, tokens, where))
    batches = []
    for length in sorted(groups):
        rows = groups[length]
        chosen = tuple(prompts[i] for i, _, _ in rows)
        named = dict.fromkeys((*ROLES, *rows[0][2]))  # IOI's in their order, and whatever other tasks call theirs
        roles = [role for role in named if all(role in where for _, _, where in rows)]
        batches.append(
            Batch(
                prompts=chosen,
                tokens=torch.tensor([tokens for _, tokens, _ in rows], device=device),
                positions={role: torch.tensor([where[role] for _, _, where in rows], device=device) for role in roles},
                answers=torch.tensor([[ids_of[p.answers[0]], ids_of[p.answers[1]]] for p in chosen], device=device),
                index=tuple(i for i, _, _ in rows),
            )
        )
    return batches
