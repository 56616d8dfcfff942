"""Text as rows of tokens, for training sparse autoencoders and for measuring them: rows by number, the same at every call.

Training and measuring never see the same row. The embedded model's generator draws each row from its own seed, and the
sentences about two people in training are about the discovery half of the name pairs, so that no IOI prompt on which a verdict
is given can have been in it. (In the embedded model's own training there were such prompts, but for its held-out names, pairs
and combinations.) Of a text file or a data set, every sixteenth row is held out.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from circuit_claims.prompts.ioi import Half
from circuit_claims.prompts.word_tokens import inside
from circuit_claims.sae.folder import SaeError

Part = Literal["training", "held out"]
#: Of the rows of a text that is given, one in so many is held out.
HELD_OUT_EVERY = 16
#: Characters of a text that are read before anything is loaded, to see whether it can be.
LOOKED_THROUGH = 1 << 28
#: Characters of a plain text file that are tokenised at a time.
PIECE = 1 << 16


class Rows(Protocol):
    """Rows of `context` tokens each, by number."""

    name: str
    context: int
    part: Part

    def rows(self, first: int, n: int) -> Int[Tensor, "row pos"]:
        """`n` rows from number `first` on.

        Raises SaeError where the text has no so many.
        """
        ...


class GeneratedRows:
    """The embedded model's own text, as its last stage of training had it, from seeds that its training did not use."""

    def __init__(self, part: Part, seed: int = 0) -> None:
        from circuit_claims.prompts import mini_corpus

        self._corpus = mini_corpus
        self.part: Part = part
        self.seed, self.context = seed, mini_corpus.ROW_TOKENS
        self.half: Half = "discovery" if part == "training" else "verdict"
        self.name = f"mini's corpus, last stage, {part} seeds {seed}, two people of the {self.half} half of the name pairs"

    def rows(self, first: int, n: int) -> Int[Tensor, "row pos"]:
        """`n` rows, each from a generator of its own that is seeded by its number."""
        mix = self._corpus.STAGES[-1][1]
        drawn = (random.Random(f"SAE, {self.part}, {self.seed}, {number}") for number in range(first, first + n))
        return torch.tensor([self._corpus.draw_row(rng, mix, self.half)[0] for rng in drawn])


class TextRows:
    """Documents one after the other, each closed by the end-of-text token, cut into rows that begin with BOS if asked to."""

    def __init__(
        self,
        name: str,
        documents: Callable[[], Iterator[str | None]],
        tokenizer: Any,
        *,
        context: int,
        part: Part,
        prepend_bos: bool,
    ) -> None:
        """documents: opens the text at its beginning; it gives pieces of text, and None where a document ends.

        A text is read no further than rows are asked for.
        """
        self.part: Part = part
        self.name, self.context, self.prepend_bos = name, context, prepend_bos
        self._documents, self._tokenizer = documents, tokenizer
        self._at, self._open = 0, self._cut()

    def _cut(self) -> Iterator[Int[Tensor, " pos"]]:
        from sae_lens.tokenization_and_batching import concat_and_batch_sequences

        bos = self._tokenizer.bos_token_id if self.prepend_bos else None
        documents = itertools.pairwise(itertools.chain([None], self._documents()))
        pieces = (torch.tensor(ids) for before, piece in documents if (ids := self._ids(piece, begins=before is None)))
        rows = concat_and_batch_sequences(pieces, self.context, begin_batch_token_id=bos)
        held_out = self.part == "held out"
        return (row for number, row in enumerate(rows) if (number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out)

    def _ids(self, piece: str | None, *, begins: bool) -> list[int]:
        """begins: whether a document begins with this piece; what goes on gets no mark of a beginning."""
        if piece is None:
            return [] if self._tokenizer.eos_token_id is None else [self._tokenizer.eos_token_id]
        if not begins and (ids := inside(self._tokenizer, piece)):
            return ids
        return self._tokenizer(piece, add_special_tokens=False, verbose=False).input_ids

    def rows(self, first: int, n: int) -> Int[Tensor, "row pos"]:
        """`n` rows from number `first` on; going back opens the text anew."""
        if first < self._at:
            self._at, self._open = 0, self._cut()
        found = []
        for row in self._open:
            self._at += 1
            if self._at > first:
                found.append(row)
            if self._at == first + n:
                break
        if len(found) < n:
            raise SaeError(
                f"{self.name} is too short: its {self.part} part has {self._at} rows of {self.context} tokens, "
                f"and {first + n} are asked for: give a longer text, or ask for fewer tokens"
            )
        return torch.stack(found)

    def count(self, at_most: int) -> int:
        """How many rows there are; no more are counted than `at_most`."""
        return sum(1 for _ in itertools.islice(self._cut(), at_most))


def documents_of(text: str) -> Callable[[], Iterator[str | None]]:
    """How to open a text: a file (`.jsonl`: a document a line, under "text"; any other: one document), or a hub data set.

    The network is needed for a data set alone.

    Raises SaeError where there is none, or where it cannot be read.
    """
    try:
        path = Path(text).expanduser()
        there, is_file, is_folder = path.exists(), path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # no permission, an unknown ~user, a NUL, a name too long
        raise SaeError(f"{text[:80]!r} cannot be read as text ({error}): name a file, or a data set of the hub") from error
    if is_file:
        return lambda: _of_json_lines(path) if path.suffix == ".jsonl" else _of_plain_text(path)
    if is_folder:
        raise SaeError(f"{text} is a folder: name a text file, or a data set of the hub")
    if there or text.startswith((".", "/", "~")) or path.suffix in (".txt", ".jsonl"):
        raise SaeError(f"there is no text file {text}: name a file, or a data set of the hub")
    return lambda: _of_data_set(text)


def look_through(text: str) -> None:
    """Read a text file once, as far as `LOOKED_THROUGH`: one that cannot be read is refused before anything is loaded.

    A data set is not opened.

    Raises SaeError where there is none, where it cannot be read, or has nothing in it.
    """
    documents, seen = documents_of(text), 0
    if not Path(text).expanduser().is_file():
        return
    for piece in documents():
        seen += len((piece or "").strip())
        if seen > LOOKED_THROUGH:
            return
    if not seen:
        raise SaeError(f"{text} has nothing in it: name a file with text that the SAE has not seen")


def _of_plain_text(path: Path) -> Iterator[str | None]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            while piece := file.read(PIECE):
                # Up to the end of a line, so that no word is cut in two.
                yield piece + file.readline()
            yield None
    except (OSError, UnicodeDecodeError) as error:
        raise SaeError(f"{path} cannot be read as text ({error}): give a file in UTF-8") from error


def _of_json_lines(path: Path) -> Iterator[str | None]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if line.strip():
                    text = json.loads(line)["text"]
                    if not isinstance(text, str):
                        raise TypeError(f"text is {text!r:.40}")
                    yield text
                    yield None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise SaeError(f'{path} cannot be read as JSON lines with a "text" each ({error}): mend it') from error


def _of_data_set(name: str) -> Iterator[str | None]:
    from datasets import load_dataset

    try:
        for row in load_dataset(name, split="train", streaming=True):
            yield row["text"]
            yield None
    except KeyError as error:
        raise SaeError(f"the data set {name} has no column called text: name another") from error
    except Exception as error:  # the hub's clients raise many kinds; the user can do the same about all of them
        raise SaeError(
            f"the data set {name} cannot be had ({type(error).__name__}): check its name and the network, or give a text file"
        ) from error
