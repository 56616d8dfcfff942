"""Circuits from scores: the n best edges, whatever they are connected to, or grown from the logits.

Two orders: by `size`, the absolute score, as a circuit that computes what the model does keeps what hinders, too (MIB's CMD);
by `value`, the score itself, as a circuit that does the task best keeps what helps alone (MIB's CPR). Of equal scores, the
edge that stands first in the graph is taken first.
"""

import heapq
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph, EdgeMask

Order = Literal["size", "value"]
ORDERS: tuple[Order, ...] = get_args(Order)
#: How a circuit of n edges is put together: the n best edges, or those that a search from the logits takes.
Search = Literal["top", "greedy"]
SEARCHES: tuple[Search, ...] = get_args(Search)


def found_edges(
    graph: EdgeGraph,
    scores: Float[np.ndarray, " edge"],
    n: int,
    *,
    search: Search = "greedy",
    order: Order = "size",
    prune: bool = True,
) -> EdgeMask:
    """A circuit of n edges by their scores, less those that are pruned since they are not connected.

    Raises EdgeError for more edges than there are, and for an unknown search or order.
    """
    if search not in SEARCHES:
        raise EdgeError(f"unknown search {search!r} for edges: use {' or '.join(SEARCHES)}")
    return (top_edges if search == "top" else greedy_edges)(graph, scores, n, order=order, prune=prune)


def top_edges(
    graph: EdgeGraph, scores: Float[np.ndarray, " edge"], n: int, *, order: Order = "size", prune: bool = False
) -> EdgeMask:
    """The n edges of the highest scores; prune: less those that are not connected, which leaves fewer.

    Raises EdgeError for more edges than there are, and for an unknown order.
    """
    ranked = _checked(graph, scores, n, order)
    mask = graph.no_edges()
    mask[np.argsort(-ranked, kind="stable")[:n]] = True
    return pruned(graph, mask) if prune else mask


def greedy_edges(
    graph: EdgeGraph, scores: Float[np.ndarray, " edge"], n: int, *, order: Order = "size", prune: bool = True
) -> EdgeMask:
    """n edges grown from the logits (Hanna et al. 2024, section 3.3): again and again the best edge into what is there.

    There are the logits, and every sender of an edge that was taken. prune: less the edges of senders that nothing reaches,
    which leaves fewer.

    Raises EdgeError for more edges than there are, and for an unknown order.
    """
    ranked = _checked(graph, scores, n, order)
    mask = graph.no_edges()
    reached = np.zeros(graph.n_senders + 1, dtype=bool)
    by_node = _edges_into_nodes(graph)
    heap: list[tuple[float, int]] = []

    def reach(node: int) -> None:
        reached[node] = True
        for edge in by_node[node]:
            heapq.heappush(heap, (-float(ranked[edge]), int(edge)))

    reach(graph.n_senders)  # the logits
    for _ in range(n):
        _, edge = heapq.heappop(heap)
        mask[edge] = True
        sender = int(graph.sender_of_edge[edge])
        if not reached[sender]:
            reach(sender)
    return pruned(graph, mask) if prune else mask


def pruned(graph: EdgeGraph, mask: EdgeMask) -> EdgeMask:
    """The edges of a set that lie on a path from the embedding to the logits within it."""
    mask = graph.checked(mask).copy()
    nodes = graph.node_of_receiver[graph.receiver_of_edge]  # who reads there; the number of senders for the logits
    while True:
        fed = np.zeros(graph.n_senders + 1, dtype=bool)
        heard = np.zeros(graph.n_senders + 1, dtype=bool)
        fed[nodes[mask]], heard[graph.sender_of_edge[mask]] = True, True
        fed[0], heard[-1] = True, True  # the embedding needs no input, and the logits no reader
        connected = mask & fed[graph.sender_of_edge] & heard[nodes]
        if (connected == mask).all():
            return mask
        mask = connected


def _edges_into_nodes(graph: EdgeGraph) -> list[np.ndarray]:
    """The edges into each sender, and into the logits last, by their numbers."""
    nodes = graph.node_of_receiver[graph.receiver_of_edge]
    order = np.argsort(nodes, kind="stable")
    return np.split(order, np.searchsorted(nodes[order], np.arange(1, graph.n_senders + 1)))


def _checked(graph: EdgeGraph, scores: Float[np.ndarray, " edge"], n: int, order: str) -> Float[np.ndarray, " edge"]:
    """The scores in the order that is asked for."""
    if order not in ORDERS:
        raise EdgeError(f"unknown order {order!r} of edges: use {' or '.join(ORDERS)}")
    if scores.shape != (len(graph),):
        raise EdgeError(
            f"these are scores of {scores.shape[-1]:,} edges, and a model of {graph} has {len(graph):,}: "
            "take the scores of this very model"
        )
    if not 0 <= n <= len(graph):
        raise EdgeError(f"a circuit of {n:,} edges is asked for, and a model of {graph} has {len(graph):,}: ask for fewer")
    return np.abs(scores) if order == "size" else scores
