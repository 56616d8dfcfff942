"""From what a user types to tokens: the prompt, the token that is asked for, the words that are meant, the heads.

Every way in which these can be wrong ends here, in one sentence: `ExperimentError`.
"""

import re
from dataclasses import dataclass
from typing import Any

from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.heads import Head
from circuit_claims.prompts.word_tokens import inside
from circuit_claims.subjects.subject import Subject

#: What to do where only the first token of a word is meant, at the command line and in Python.
BY_THE_FIRST = "or compare by its first token with --first-token (in Python, first_token=True)"


@dataclass(frozen=True)
class Token:
    """A token of the vocabulary, and the text that it stands for."""

    id: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """As result.json has it."""
        return {"id": self.id, "text": self.text}

    def __str__(self) -> str:
        return repr(self.text)


@dataclass(frozen=True)
class Prompt:
    """A prompt as one model reads it.

    tokens: with BOS where it begins so; offsets: of each token, where it begins and ends in `text`, in characters.
    """

    text: str
    tokens: tuple[Token, ...]
    offsets: tuple[tuple[int, int], ...]
    prepend_bos: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple(token.id for token in self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)


def read_prompt(model: Subject, text: str, prepend_bos: bool | None) -> Prompt:
    """The prompt as the model reads it; prepend_bos: None is as the model was loaded.

    Raises ExperimentError where there is nothing in it, where it has words that the tokenizer does not know, is longer than the
    model's context, or BOS is asked of a tokenizer without one.
    """
    tokenizer = model.tokenizer
    bos = model.prepend_bos if prepend_bos is None else prepend_bos
    if bos and tokenizer.bos_token_id is None:
        raise ExperimentError(f"the tokenizer of {model.name} has no BOS token: leave BOS out (--no-bos)")
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = list(read["input_ids"]), [(int(begin), int(end)) for begin, end in read["offset_mapping"]]
    if not text.strip() or not ids:
        raise ExperimentError("the prompt is empty: give the words after which the next token is asked for")
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in ids and unknown != tokenizer.bos_token_id:  # GPT-2's are the same
        begin, end = offsets[ids.index(unknown)]
        raise ExperimentError(
            f"the tokenizer of {model.name} does not know {text[begin:end]!r} in {text!r}: use its words, or another model"
        )
    if bos:
        ids, offsets = [tokenizer.bos_token_id, *ids], [(0, 0), *offsets]
    longest = model.transformer.n_ctx
    if longest and len(ids) > longest:
        raise ExperimentError(f"the prompt has {len(ids)} tokens, and {model.name} reads {longest} at most: shorten it")
    return Prompt(text, tuple(token_of(model, i) for i in ids), tuple(offsets), bos)


def token_of(model: Subject, token: int) -> Token:
    """A token by its id."""
    return Token(token, model.tokenizer.decode([token], clean_up_tokenization_spaces=False))


def answer_token(model: Subject, text: str, called: str, *, first: bool = False) -> Token:
    """The token that is asked for: `text` is one, or (first) begins with it.

    called: what it is, as the error says: "target".

    Raises ExperimentError where it is several tokens, none, or unknown to the tokenizer.
    """
    tokenizer = model.tokenizer
    if not text:
        raise ExperimentError(f"the {called} is empty: give the token that is asked for, with the space before it")
    ids = inside(tokenizer, text)
    if not ids or (tokenizer.unk_token_id is not None and ids[0] == tokenizer.unk_token_id):
        raise ExperimentError(f"the tokenizer of {model.name} does not know the {called} {text!r}: give a word that it has")
    if len(ids) == 1 or first:
        return token_of(model, ids[0])
    parts = ", ".join(repr(tokenizer.decode([i])) for i in ids)
    spaced = " " + text
    if not text.startswith(" ") and len(inside(tokenizer, spaced)) == 1:
        raise ExperimentError(
            f"the {called} {text!r} is {len(ids)} tokens for {model.name} ({parts}), and {spaced!r}, with the space before it, "
            f"is one: give that, {BY_THE_FIRST}"
        )
    raise ExperimentError(
        f"the {called} {text!r} is {len(ids)} tokens for {model.name} ({parts}): give a word that is one token, {BY_THE_FIRST}"
    )


def blank_hint(prompt: str) -> str:
    """A sentence where a prompt ends with a blank; else nothing."""
    told = "the prompt ends with a blank, which most tokenizers have in the next word's token: leave it out"
    return told if prompt != prompt.rstrip() else ""


def space_hint(model: Subject, text: str, called: str) -> str:
    """A sentence where a space is probably missing before an answer; else nothing."""
    spaced = inside(model.tokenizer, " " + text)
    if text.startswith(" ") or not text[:1].isalnum() or len(spaced) != 1 or spaced == inside(model.tokenizer, text):
        return ""
    return f"the {called} {text!r} has no space before it, and {' ' + text!r} is another token: is that the one that is meant?"


def word_positions(prompt: Prompt, words: str, called: str) -> tuple[int, int]:
    """The first and the last token of some words of the prompt.

    Raises ExperimentError where they are not in the prompt, or there more than once.
    """
    meant = words.strip()
    found = list(re.finditer(rf"(?<!\w){re.escape(meant)}(?!\w)", prompt.text)) if meant else []
    if not found:
        raise ExperimentError(f"{words!r} ({called}) is not in the prompt {prompt.text!r}: give words as they stand there")
    if len(found) > 1:
        raise ExperimentError(
            f"{words!r} ({called}) is in the prompt {prompt.text!r} {len(found)} times: give more of the words around the one "
            "that is meant"
        )
    begin, end = found[0].span()
    covering = [i for i, (a, b) in enumerate(prompt.offsets) if a < end and b > begin]
    return covering[0], covering[-1]


def position(prompt: Prompt, at: str | int, called: str = "--at") -> int:
    """A position: by its number (from the end where that is negative), "END", or the last token of a word of the prompt.

    Raises ExperimentError where there is none, or the word is there more than once.
    """
    if isinstance(at, str):
        if at == "END":
            return len(prompt) - 1
        if not re.fullmatch(r"-?\d+", at):
            return word_positions(prompt, at, called)[1]
        at = int(at)
    if not -len(prompt) <= at < len(prompt):
        raise ExperimentError(
            f"there is no position {at} ({called}): the prompt has {len(prompt)} tokens, from 0 to {len(prompt) - 1}"
        )
    return at % len(prompt)


def read_head(model: Subject, head: str | Head) -> Head:
    """A head of this model.

    Raises ExperimentError where it has no such head, or the name is none.
    """
    try:
        found = Head.parse(head) if isinstance(head, str) else Head(*head)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    layers, heads = model.transformer.n_layers, model.transformer.n_heads
    if not (0 <= found.layer < layers and 0 <= found.head < heads):
        raise ExperimentError(
            f"{model.name} has no head {found}: it has {layers} layers of {heads} heads, L0H0 to {Head(layers - 1, heads - 1)}"
        )
    return found
