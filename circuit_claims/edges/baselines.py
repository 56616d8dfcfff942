"""Scores that know nothing of what edges do, which scores are held against."""

import numpy as np
from jaxtyping import Float

from circuit_claims.edges.graph import EdgeGraph


def random_scores(graph: EdgeGraph, seed: int) -> Float[np.ndarray, " edge"]:
    """Numbers between 0 and 1 by seed: the same chance for every order of edges."""
    return np.random.default_rng([seed, 5]).random(len(graph))


def layer_distance(graph: EdgeGraph) -> Float[np.ndarray, " edge"]:
    """How near the ends of an edge are: the number of layers plus 2, less how many layers lie between its sender and receiver.

    The embedding is one layer before the first, the logits one behind the last.
    """
    sent = np.array([-1 if sender.layer is None else sender.layer for sender in graph.senders])
    read = np.array([graph.n_layers if receiver.layer is None else receiver.layer for receiver in graph.receivers])
    distance = read[graph.receiver_of_edge] - sent[graph.sender_of_edge]
    return (graph.n_layers + 2 - distance).astype(float)
