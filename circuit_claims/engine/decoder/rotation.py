"""Rotary positions: the model's own cosines and sines, applied to whatever rows of queries and keys are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Which entries of a head are turned together: the first half with the second (Llama), or neighbours (GPT-J).
Pairing = Literal["halves", "neighbours"]
#: Of how many lengths tables are kept: those used last.
KNOWN = 16
#: From a number of positions to their cosines and sines.
Table = Callable[[int], tuple[Float[Tensor, "pos rotated"], Float[Tensor, "pos rotated"]]]


@dataclass(frozen=True)
class Rotation:
    """The rotation of queries and keys by their positions (Su et al. 2021, RoFormer), of the first entries of each head.

    table: the model's own module, asked for all positions of a sequence at once. Some kinds of scaling (dynamic, longrope) make
        other frequencies of a longer sequence, so that its length is part of the question.
    """

    table: Table
    pairing: Pairing = "halves"
    _known: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False)

    def turned(
        self, x: Float[Tensor, "*batch d_head"], at: int | Int[Tensor, "prompt k"], length: int, *, heads: bool = True
    ) -> Float[Tensor, "*batch d_head"]:
        """Queries or keys `[..., pos, (head,) d_head]`, turned by their positions in a sequence of `length`.

        at: the position of the first of them, or each one's own (`[prompt, k]`, for `[prompt, k, head, d_head]`). heads:
        whether there is an axis of heads behind that of positions.
        """
        cos, sin = self._of(length)
        n = x.shape[-3] if heads else x.shape[-2]
        cos, sin = (part[at : at + n] if isinstance(at, int) else part[at] for part in (cos, sin))
        if heads:
            cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
        width = cos.shape[-1]
        some = x if width == x.shape[-1] else x[..., :width]
        result = (some * cos + _quarter_turn(some, self.pairing) * sin).to(x.dtype)
        return result if width == x.shape[-1] else torch.cat([result, x[..., width:]], -1)

    def _of(self, length: int) -> tuple[Tensor, Tensor]:
        if length not in self._known:
            while len(self._known) >= KNOWN:
                self._known.pop(next(iter(self._known)))
            # Outside inference mode: gradients pass through these, too.
            with torch.inference_mode(False), torch.no_grad():
                self._known[length] = self.table(length)
        return self._known[length]


def _quarter_turn(x: Tensor, pairing: Pairing) -> Tensor:
    if pairing == "neighbours":
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)
