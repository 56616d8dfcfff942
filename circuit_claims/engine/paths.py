"""The words of path patching: who sends, who receives, which MLPs pass a change on, and what a run looks like on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.run import Run
from circuit_claims.heads import Head

#: Whether MLPs between senders and receivers are recomputed (as Wang et al. 2022 do) or frozen to what they were.
Mlps = Literal["recomputed", "frozen"]


class Part(NamedTuple):
    """A head (layer, head), or a layer's MLP (layer, None)."""

    layer: int
    head: int | None = None

    def __str__(self) -> str:
        return f"MLP {self.layer}" if self.head is None else f"L{self.layer}H{self.head}"


@dataclass(frozen=True)
class Receivers:
    """The queries (q), keys (k) or values (v) of some heads.

    Raises ValueError for any other input.
    """

    heads: tuple[Head, ...]
    input: Literal["q", "k", "v"]

    def __post_init__(self) -> None:
        if self.input not in ("q", "k", "v"):
            raise ValueError(f"unknown input {self.input!r} of the receivers: use q, k or v")

    def __str__(self) -> str:
        names = {"q": "queries", "k": "keys", "v": "values"}
        return f"{names[self.input]} of {', '.join(map(str, self.heads))}"


@dataclass(frozen=True)
class Trace:
    """A run at some positions: the stream before each layer and between attention and MLP, and all head outputs.

    positions: `[prompt, k]`.
    """

    positions: Int[Tensor, "prompt k"]
    pre: Float[Tensor, "layers_and_one prompt k d_model"]
    mid: Float[Tensor, "layer prompt k d_model"]
    z: Float[Tensor, "layer prompt k head d_head"]


@dataclass(frozen=True)
class Written:
    """What every part writes into the stream at some positions: embedding, attention and MLPs sum to the final stream.

    attn_out: with the layer's bias; z: every head's output before its projection to the stream.
    """

    embedding: Float[Tensor, "prompt k d_model"]
    attn_out: Sequence[Float[Tensor, "prompt k d_model"]]
    mlp_out: Sequence[Float[Tensor, "prompt k d_model"]]
    z: Sequence[Float[Tensor, "prompt k head d_head"]]
    final: Float[Tensor, "prompt k d_model"]


def check_path(
    base: Run, receivers: Receivers | None, positions: Int[Tensor, "prompt k"], mlps: str, knocked_out: Sequence[Edit]
) -> None:
    """Refuse what `Engine.path_patch` cannot mean.

    Raises ValueError where the direct path to the logits does not start at END, for knock-outs with receivers or of anything
    but z, and for unknown `mlps`.
    """
    if mlps not in get_args(Mlps):
        raise ValueError(f"unknown mlps {mlps!r}: use {' or '.join(get_args(Mlps))}")
    if any(edit.site != "z" for edit in knocked_out):
        raise ValueError("knock-outs under which paths are patched are edits of z")
    if receivers is None and not bool((positions[:, -1] == base.tokens.shape[1] - 1).all()):
        raise ValueError("a direct path to the logits starts at END: give the last position")
    if receivers is not None and knocked_out:
        raise ValueError("path patching in a model with heads knocked out goes to the logits alone")
