"""Prompts as somebody published them, in place of drawn ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from circuit_claims.prompts.batch import TokenizationError, make_batches
from circuit_claims.prompts.source import FixedPrompt
from circuit_claims.tasks.task import Task
from circuit_claims.untested import Untested


@dataclass(frozen=True, repr=False)
class PublishedPrompts(Task):
    """A task that can be measured on given prompts: two answers of one token each, with a space before."""

    def published(
        self,
        prompts: Sequence[tuple[str, str, str]],
        *,
        prepend_bos: bool,
        corrupted: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
    ) -> Self:
        """Exactly these prompts, each (text, IO, S), with or without BOS as they were published: no sampling.

        corrupted: what they were published with to patch between, by the name of the corruption: for each prompt the corrupted
        one, with the answers of the clean one.

        Raises Untested where a name in them is not one token for the subject's tokenizer, or a corrupted prompt has not as many
        tokens as its clean one, and ValueError where its answers are not the clean one's.
        """
        partners: list[list[tuple[str, str]]] = [[] for _ in prompts]
        for name, others in (corrupted or {}).items():
            for of, (_, *answers), (text, *kept) in zip(partners, prompts, others, strict=True):
                if answers != kept:
                    raise ValueError(
                        f"{text!r} is compared at other answers than its clean prompt: patching keeps the clean ones"
                    )
                of.append((name, text))
        fixed = tuple(
            FixedPrompt(text, (io, s), corrupted=tuple(of)) for (text, io, s), of in zip(prompts, partners, strict=True)
        )
        try:
            lists = [fixed, *([prompt.changed(name) for prompt in fixed] for name in corrupted or {})]
            batches = [make_batches(self.subject.tokenizer, each, prepend_bos=prepend_bos) for each in lists]
        except TokenizationError as error:
            raise Untested(f"these prompts cannot be put to {self.subject.name}: {error}") from error
        lengths = [{i: batch.tokens.shape[1] for batch in of for i in batch.index} for of in batches]
        for others, of in zip(lists, lengths, strict=True):
            for i, clean in enumerate(fixed):
                if of[i] != lengths[0][i]:
                    raise Untested(
                        f"{clean.text!r} and its corruption {others[i].text!r} are {lengths[0][i]} and {of[i]} tokens for this "
                        "tokenizer: they must be equally many to be paired position by position"
                    )
        return replace(self, fixed=fixed, prepend_bos=prepend_bos)
