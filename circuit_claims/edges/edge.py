"""Edges: what a sender writes into the residual stream, as one receiver reads it.

    L0H1 -> L2H3.q        a head into another head's queries
    embed -> MLP2         the embedding into an MLP
    MLP3 -> logits        an MLP into the final stream

Senders are the embedding, heads and MLPs; receivers are the queries, keys and values of heads, MLPs, and the logits. An edge
holds at all positions: what a sender writes at a position is read at that position.
"""

import re
from typing import NamedTuple, cast, get_args

from circuit_claims.edges.errors import EdgeError
from circuit_claims.heads import Head, Reader

#: How edges are written.
FORM = "write it as 'L0H1 -> L2H3.q', 'embed -> MLP2' or 'MLP3 -> logits'"


class Sender(NamedTuple):
    """The embedding (no layer), a head (layer and head), or an MLP (its layer alone)."""

    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        return "embed" if self.layer is None else f"MLP{self.layer}" if self.head is None else str(Head(self.layer, self.head))

    @property
    def kind(self) -> str:
        """embed, head or MLP."""
        return "embed" if self.layer is None else "MLP" if self.head is None else "head"

    @classmethod
    def parse(cls, text: str) -> "Sender":
        """Read `embed`, `L0H1` or `MLP2`.

        Raises EdgeError where the text is anything else.
        """
        if text == "embed":
            return cls()
        if match := re.fullmatch(r"MLP(\d+)", text):
            return cls(int(match[1]))
        if match := re.fullmatch(r"L(\d+)H(\d+)", text):
            return cls(int(match[1]), int(match[2]))
        raise EdgeError(f"{text!r} is no sender of an edge: name embed, a head such as L0H1, or an MLP such as MLP2")


class Receiver(NamedTuple):
    """The logits (no layer), an MLP (its layer alone), or the queries, keys or values of a head."""

    layer: int | None = None
    head: int | None = None
    input: Reader | None = None

    def __str__(self) -> str:
        if self.layer is None:
            return "logits"
        return f"MLP{self.layer}" if self.head is None else f"{Head(self.layer, self.head)}.{self.input}"

    @property
    def kind(self) -> str:
        """q, k, v, MLP or logits."""
        return "logits" if self.layer is None else self.input or "MLP"

    @property
    def node(self) -> Sender | None:
        """What reads there and sends on; None for the logits."""
        return None if self.layer is None else Sender(self.layer, self.head)

    @classmethod
    def parse(cls, text: str) -> "Receiver":
        """Read `L2H3.q`, `MLP2` or `logits`.

        Raises EdgeError where the text is anything else.
        """
        if text == "logits":
            return cls()
        if match := re.fullmatch(r"MLP(\d+)", text):
            return cls(int(match[1]))
        if match := re.fullmatch(r"L(\d+)H(\d+)\.([qkv])", text):
            return cls(int(match[1]), int(match[2]), cast(Reader, match[3]))
        raise EdgeError(
            f"{text!r} is no receiver of an edge: name a head's input such as L2H3.q, an MLP such as MLP2, or logits"
        )


class Edge(NamedTuple):
    """What a sender writes, as one receiver reads it."""

    sender: Sender
    receiver: Receiver

    def __str__(self) -> str:
        return f"{self.sender} -> {self.receiver}"

    @property
    def kind(self) -> str:
        """The family of the edge, such as "head -> q"."""
        return f"{self.sender.kind} -> {self.receiver.kind}"

    @classmethod
    def parse(cls, text: str) -> "Edge":
        """Read an edge; whether a model has it is the model's graph to say.

        Raises EdgeError where the text is no edge.
        """
        ends = re.fullmatch(r"\s*(\S+)\s*->\s*(\S+)\s*", text) if isinstance(text, str) else None
        if ends is None:
            raise EdgeError(f"{text!r} is no edge: {FORM}")
        return cls(Sender.parse(ends[1]), Receiver.parse(ends[2]))


#: The inputs of heads, in the order in which receivers stand.
INPUTS: tuple[Reader, ...] = get_args(Reader)
