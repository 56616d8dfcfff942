"""Subjects whose edges are known: the planted model and its variants, and the controls that are held against them."""

from circuit_claims.controls.names import modelled_on
from circuit_claims.controls.plan import plan
from circuit_claims.controls.planted import MUTILATIONS
from circuit_claims.controls.planted_edges import Carried, wired
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.search import pruned
from circuit_claims.untested import Untested

GRAPH = EdgeGraph(n_layers=12, n_heads=12)


def planted_circuit(mutilation: str = "") -> Carried:
    """The edges of the planted model's circuit, or of one of its variants', with what travels along each.

    They are those of `wired` that lie on a way from the embedding to the logits.

    Raises KeyError for an unknown variant.
    """
    jobs = plan()
    found = wired(MUTILATIONS[mutilation].change(jobs) if mutilation else jobs)
    return {str(edge): found[str(edge)] for edge in GRAPH.edges(pruned(GRAPH, GRAPH.mask(found)))}


def planted_edges(mutilation: str = "") -> EdgeMask:
    """The same as a mask over all edges.

    Raises KeyError for an unknown variant.
    """
    return GRAPH.mask(planted_circuit(mutilation))


def known_edges(subject: str) -> EdgeMask:
    """The edges that a subject's circuit is known to have, by the subject's name.

    Of a control of the planted model (`random`, `shuffled`) these are the planted model's: it has them not, and claims fail.

    Raises Untested for any other subject.
    """
    kind, _, rest = subject.partition(":")
    if kind == "planted" and rest in ("", *MUTILATIONS):
        return planted_edges(rest)
    if kind in ("random", "shuffled") and modelled_on(subject) == modelled_on("planted"):
        return planted_edges()
    raise Untested(f"the edges of {subject}'s circuit are not known: take a model that is built by hand, --subject planted")
