"""Induction by the length of what comes again: a few tokens of a random sequence, said a second time later in it.

Source: Kissane et al. 2024 ("Interpreting Attention Layer Outputs with Sparse Autoencoders"), whose script draws 128 different
tokens after BOS, copies a prefix from one random place to another, and looks from the copy's last token at the token that came
after the original.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.heads import Head
from circuit_claims.measure.figures import curve
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import as_array
from circuit_claims.untested import Untested

#: Prefix lengths that are looked at, of the source's 1 to 9; sequences of each, and how many go through the model at once.
LENGTHS, EXAMPLES, AT_ONCE = (1, 2, 4, 9), 48, 16
#: Tokens of a sequence with its BOS, and the room that the source leaves behind the first place.
LENGTH, ROOM_BEHIND = 128, 30
STREAM = 2025


@dataclass(frozen=True)
class Prefixes:
    """Random sequences in which a prefix of some length is repeated, on one subject."""

    subject: Subject
    seed: int
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def advantage(self, of: Head, over: Head, *, length: int) -> Measurement:
        """By how much one head attends more to what came after, when a prefix of this length comes again, than another does."""

        def take(n: int) -> Samples:
            values = self._scores(of, length)[:n] - self._scores(over, length)[:n]
            return self._samples(values, f"induction score of {of} minus {over} for a prefix of {length}", of, over)

        return Measurement(take, True, EXAMPLES)

    def gain(self, of: Head, over: Head) -> Measurement:
        """By how much more one head's attention grows from the shortest prefix to the longest than another's does."""

        def take(n: int) -> Samples:
            grown = [self._scores(head, LENGTHS[-1])[:n] - self._scores(head, LENGTHS[0])[:n] for head in (of, over)]
            quantity = f"gain of the induction score from prefixes of {LENGTHS[0]} to {LENGTHS[-1]}, {of} minus {over}"
            return self._samples(grown[0] - grown[1], quantity, of, over)

        return Measurement(take, True, EXAMPLES)

    def sequences(self, length: int) -> tuple[Int[Tensor, "sequence pos"], Int[Tensor, "sequence two"]]:
        """The sequences, and in each the query (the copy's last token) and the key (the token that came after).

        Raises Untested where the model has no room, too few tokens, or no BOS.
        """
        tokenizer, model = self.subject.tokenizer, self.subject.transformer
        size = min(LENGTH, model.n_ctx)
        special = set(tokenizer.all_special_ids)
        ordinary = [token for token in range(min(len(tokenizer), model.d_vocab)) if token not in special]
        if size < ROOM_BEHIND + 2 * LENGTHS[-1] or len(ordinary) < size or tokenizer.bos_token_id is None:
            raise Untested(f"{self.subject.name} has no room for {LENGTH} different tokens after BOS")
        random = np.random.default_rng([self.seed, STREAM, length])
        tokens, places = [], []
        for _ in range(EXAMPLES):
            sequence = random.choice(ordinary, size, replace=False)
            sequence[0] = tokenizer.bos_token_id
            first = int(random.integers(1, size - ROOM_BEHIND + 1))
            second = int(random.integers(first + length + 1, size - length))
            sequence[second : second + length] = sequence[first : first + length]
            tokens.append(sequence)
            places.append((second + length - 1, first + length))
        return torch.from_numpy(np.stack(tokens)).to(self.subject.device), torch.tensor(places)

    def _scores(self, head: Head, length: int) -> Float[np.ndarray, " sequence"]:
        layer = self.store.get((self.seed, head.layer, length), partial(self._of_layer, head.layer, length))
        return layer[:, head.head]

    @torch.inference_mode()
    def _of_layer(self, layer: int, length: int) -> Float[np.ndarray, "sequence head"]:
        model, (tokens, places) = self.subject.transformer, self.sequences(length)
        parts = []
        for some, where in zip(tokens.split(AT_ONCE), places.split(AT_ONCE), strict=True):
            run = self.subject.run(some)
            pattern = model.attention(layer, run.resid[layer]).pattern
            parts.append(as_array(pattern[torch.arange(len(some)), :, where[:, 0], where[:, 1]]))
        return np.concatenate(parts)

    def _samples(self, values: np.ndarray, quantity: str, *heads: Head) -> Samples:
        drawn = {
            "kind": "curves",
            "title": "attention to what came after, by the length of the prefix that comes again",
            "x": [str(length) for length in LENGTHS],
            "x_axis": "prefix length",
            "y_axis": "induction score",
            "curves": [curve(str(h), np.stack([self._scores(h, length) for length in LENGTHS], 1)) for h in heads],
            "marks": [],
        }
        return Samples(values, quantity, "probability", range(len(values)), drawn=drawn)
