"""All edges of a model of some shape, in one order.

Senders stand in the order of the forward pass: the embedding, then of each layer its heads and its MLP. Receivers likewise: of
each layer the queries of its heads, their keys, their values, and its MLP; the logits come last. What a receiver reads are the
first so many senders, so that all of its edges stand side by side in the order of edges: receiver by receiver.

GPT-2 small has 32,491 edges. Where attention and MLP stand side by side (GPT-NeoX), an MLP reads the stream before its layer,
so that the heads of its own layer do not send to it. Where query heads share keys and values in groups, each query head has a
`k` and a `v` receiver of its own: an edge into `L2H3.k` changes the key that head 3 attends to, and leaves the others of its
group alone, as an edit of one head's key does everywhere in this suite (`circuit_claims.engine.edits.Edit`); MIB counts edges
so, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int

from circuit_claims.edges.edge import INPUTS, Edge, Receiver, Sender
from circuit_claims.edges.errors import EdgeError

#: A set of edges: for each edge of the graph, in its order, whether it is in the set.
EdgeMask = Bool[np.ndarray, " edge"]


class Shaped(Protocol):
    """What a graph is read off: any engine."""

    n_layers: int
    n_heads: int
    parallel: bool


@dataclass(frozen=True)
class EdgeGraph:
    """The edges of a model; parallel: whether its attention and MLP stand side by side."""

    n_layers: int
    n_heads: int
    parallel: bool = False

    @classmethod
    def of(cls, model: Shaped) -> "EdgeGraph":
        """The graph of an engine's model."""
        return cls(model.n_layers, model.n_heads, model.parallel)

    def __str__(self) -> str:
        beside = ", attention and MLP side by side" if self.parallel else ""
        return f"{self.n_layers} layers of {self.n_heads} heads{beside}"

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __iter__(self) -> Iterator[Edge]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Edge:
        receiver = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return Edge(self.senders[index - int(self.offsets[receiver])], self.receivers[receiver])

    # Senders and receivers

    @cached_property
    def senders(self) -> tuple[Sender, ...]:
        """In the order of the forward pass."""
        layers, heads = range(self.n_layers), [*range(self.n_heads), None]
        return (Sender(), *(Sender(layer, head) for layer in layers for head in heads))

    @cached_property
    def receivers(self) -> tuple[Receiver, ...]:
        """In the order of the forward pass."""
        found = []
        for layer in range(self.n_layers):
            found += [Receiver(layer, head, which) for which in INPUTS for head in range(self.n_heads)]
            found.append(Receiver(layer))
        return (*found, Receiver())

    @property
    def n_senders(self) -> int:
        """How many senders there are."""
        return 1 + self.n_layers * (self.n_heads + 1)

    @property
    def n_receivers(self) -> int:
        """How many receivers there are."""
        return self.n_layers * (3 * self.n_heads + 1) + 1

    def sender_index(self, sender: Sender) -> int:
        """Where a sender stands among senders."""
        if sender.layer is None:
            return 0
        return 1 + sender.layer * (self.n_heads + 1) + (self.n_heads if sender.head is None else sender.head)

    def receiver_index(self, receiver: Receiver) -> int:
        """Where a receiver stands among receivers."""
        if receiver.layer is None:
            return self.n_receivers - 1
        first = receiver.layer * (3 * self.n_heads + 1)
        if receiver.head is None or receiver.input is None:
            return first + 3 * self.n_heads
        return first + INPUTS.index(receiver.input) * self.n_heads + receiver.head

    def heads_of(self, layer: int) -> slice:
        """Where the heads of a layer stand among senders; its MLP comes behind them."""
        first = 1 + layer * (self.n_heads + 1)
        return slice(first, first + self.n_heads)

    def inputs_of(self, layer: int, which: str) -> slice:
        """Where the queries (q), keys (k) or values (v) of a layer's heads stand among receivers."""
        first = layer * (3 * self.n_heads + 1) + "qkv".index(which) * self.n_heads
        return slice(first, first + self.n_heads)

    @cached_property
    def fan_in(self) -> Int[np.ndarray, " receiver"]:
        """How many senders each receiver reads: the first so many."""
        counts = []
        for layer in range(self.n_layers):
            before = 1 + layer * (self.n_heads + 1)
            counts += [before] * (3 * self.n_heads) + [before + (0 if self.parallel else self.n_heads)]
        return np.array([*counts, self.n_senders])

    @cached_property
    def offsets(self) -> Int[np.ndarray, " receiver_and_one"]:
        """Where each receiver's edges begin in the order of edges, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.fan_in)])

    # Edges

    @cached_property
    def sender_of_edge(self) -> Int[np.ndarray, " edge"]:
        """For each edge, where its sender stands among senders."""
        return np.arange(len(self)) - self.offsets[self.receiver_of_edge]

    @cached_property
    def receiver_of_edge(self) -> Int[np.ndarray, " edge"]:
        """For each edge, where its receiver stands among receivers."""
        return np.repeat(np.arange(self.n_receivers), self.fan_in)

    @cached_property
    def node_of_receiver(self) -> Int[np.ndarray, " receiver"]:
        """For each receiver, where what reads there stands among senders; the number of senders for the logits."""
        nodes = [self.n_senders if one.node is None else self.sender_index(one.node) for one in self.receivers]
        return np.array(nodes)

    def index(self, edge: Edge) -> int:
        """Where an edge stands in the order.

        Raises EdgeError where the model has no such edge.
        """
        why = self._why_not(edge)
        if why:
            raise EdgeError(f"{edge} is no edge of a model of {self}: {why}")
        return int(self.offsets[self.receiver_index(edge.receiver)]) + self.sender_index(edge.sender)

    def parse(self, text: str) -> Edge:
        """Read an edge of this model.

        Raises EdgeError where the text is none, or this model has no such edge.
        """
        edge = Edge.parse(text)
        self.index(edge)
        return edge

    def mask(self, edges: Iterable[Edge | str]) -> EdgeMask:
        """A set of edges as a mask over all of them.

        Raises EdgeError where one is no edge of this model: a list of another model's, for one.
        """
        mask = np.zeros(len(self), dtype=bool)
        for edge in edges:
            mask[self.index(Edge.parse(edge) if isinstance(edge, str) else edge)] = True
        return mask

    def edges(self, mask: EdgeMask) -> list[Edge]:
        """The edges of a mask, in order.

        Raises EdgeError where the mask is of another model's edges.
        """
        return [self[int(i)] for i in np.flatnonzero(self.checked(mask))]

    def all_edges(self) -> EdgeMask:
        """All edges as a mask."""
        return np.ones(len(self), dtype=bool)

    def no_edges(self) -> EdgeMask:
        """The empty set as a mask."""
        return np.zeros(len(self), dtype=bool)

    def checked(self, of_edges: np.ndarray) -> np.ndarray:
        """Marks or scores of edges, whose last axis is that of edges, themselves.

        Raises EdgeError where they are of another number of edges than this model has.
        """
        if of_edges.shape[-1] != len(self):
            raise EdgeError(
                f"these are {of_edges.shape[-1]:,} edges, and a model of {self} has {len(self):,}: "
                "take edges that were found on a model of this shape"
            )
        return of_edges

    def matrices(self, masks: Bool[np.ndarray, "*set edge"]) -> Bool[np.ndarray, "*set receiver sender"]:
        """Sets of edges as matrices, false where there is no edge."""
        found = np.zeros((*masks.shape[:-1], self.n_receivers, self.n_senders), dtype=bool)
        found[..., self.receiver_of_edge, self.sender_of_edge] = self.checked(masks)
        return found

    def of_nodes(self, nodes: Sequence[Sender]) -> EdgeMask:
        """All edges whose sender is among these nodes; the embedding's count as its own.

        Where a set of nodes is kept and all others are replaced by what they write on other prompts, these are the edges that
        are kept: receivers of nodes that are left out may read what they like, since nobody reads them.
        """
        kept = np.zeros(self.n_senders, dtype=bool)
        for node in nodes:
            kept[self.sender_index(node)] = True
        return kept[self.sender_of_edge]

    def _why_not(self, edge: Edge) -> str:
        sender, receiver = edge
        for end in (sender, receiver):
            if end.layer is not None and not 0 <= end.layer < self.n_layers:
                return f"its layers are 0 to {self.n_layers - 1}"
            if end.head is not None and not 0 <= end.head < self.n_heads:
                return f"its heads are 0 to {self.n_heads - 1} in each layer"
        if self.sender_index(sender) < self.fan_in[self.receiver_index(receiver)]:
            return ""
        if self.parallel and sender.head is not None and sender.layer == receiver.layer and receiver.kind == "MLP":
            return "its attention and MLP stand side by side, so that no head sends to the MLP of its own layer"
        return "the sender does not come before the receiver"
