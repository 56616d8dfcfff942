"""The planted circuit's edges, as its plan gives them: held against the weights, and against what patching them costs."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from circuit_claims.controls.plan import BACKUPS, INDUCTION, NEGATIVE, OTHER_MOVERS, Job, Look, Move, plan
from circuit_claims.controls.planted import MOVED_TO, MUTILATIONS, planted_folder
from circuit_claims.controls.planted_edges import SAME_FOR_ALL_NAMES, wired
from circuit_claims.edge_discovery.planted import GRAPH, known_edges, planted_circuit, planted_edges
from circuit_claims.edges.edge import Edge, Sender
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.known import auroc_of
from circuit_claims.edges.pairs import runs_of, value_of
from circuit_claims.heads import Head
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.untested import Untested

#: Receivers whose edges are patched one by one. Induction heads' keys are not among them: of the three heads that tell them the
#: token before, the loudest alone makes the match certain, so that any other may be noised by itself and nothing is lost.
PATCHED = ("L8H10.k", "L8H10.v", "L9H9.q", "logits")


def test_a_head_is_wired_to_another_where_its_weights_say_so():
    """What a head writes into subspaces that names change, times what another reads there, is zero unless there is an edge."""
    from circuit_claims.controls.construction import PLACES

    state = load_file(planted_folder() / "model.safetensors")
    state = {name.removeprefix("transformer."): value for name, value in state.items()}
    same = torch.zeros(768, dtype=torch.bool)
    for name in SAME_FOR_ALL_NAMES - {""}:
        same[PLACES[name]] = True
    out = {head: state[f"h.{head.layer}.attn.c_proj.weight"].view(12, 64, 768)[head.head].clone() for head in plan()}
    for written in out.values():
        written[:, same] = 0
    reads = {head: state[f"h.{head.layer}.attn.c_attn.weight"].view(768, 3, 12, 64)[:, :, head.head] for head in plan()}
    by_weights = {
        f"{sender} -> {receiver}.{which}"
        for sender, written in out.items()
        for receiver, inputs in reads.items()
        for i, which in enumerate("qkv")
        if sender.layer < receiver.layer and (written @ inputs[:, i]).any()
    }
    between_heads = {edge for edge in wired(plan()) if edge.startswith("L") and edge[-2] == "."}
    # Movers of the first name look for the word "and" in front of it, which previous-token heads tell them.
    of_one_word = {edge for edge in by_weights if edge.endswith(".k") and Head.parse(edge.split()[2][:-2]) in OTHER_MOVERS}
    assert between_heads <= by_weights and len(between_heads) > 200
    assert by_weights - between_heads <= of_one_word


def test_known_edges_cost_far_more_to_noise_than_others():
    """Exact effects of all edges into the logits and into inputs of two heads: those on the plan stand out."""
    subject = Subject(prepare(Settings(name="planted")))
    ioi = IOI(subject=subject, seed=0, chunk=8, population=Population(names=subject.names), prepend_bos=False)
    numbers = [i for i, receiver in enumerate(GRAPH.receivers) if str(receiver) in PATCHED]
    among, known = np.isin(GRAPH.receiver_of_edge, numbers), planted_edges()
    effects = [
        exact_effects(subject.transformer, *runs_of(ioi, clean, corrupted), value_of(ioi, clean), among=among)
        for clean, corrupted in ioi.each_pair("ABC", 4)
    ]
    size = np.abs(torch.cat(effects).double().mean(0).numpy())
    for number in numbers:
        here = GRAPH.receiver_of_edge == number
        ours, others = size[here & known], size[here & ~known]
        assert auroc_of(size[here], known[here]) > 0.95, str(GRAPH.receivers[number])
        assert np.median(ours) > 20 * np.median(others), str(GRAPH.receivers[number])


@pytest.mark.parametrize("mutilation", [name for name in MUTILATIONS if name.startswith("without")])
def test_a_variant_lacks_the_edges_of_the_heads_that_it_lacks(mutilation):
    gone = set(plan()) - set(MUTILATIONS[mutilation].change(plan()))
    whole, left = planted_circuit(), planted_circuit(mutilation)

    def touches(text: str) -> bool:
        edge = Edge.parse(text)
        return any(Sender(*head) in (edge.sender, edge.receiver.node) for head in gone)

    assert gone and any(touches(edge) for edge in whole)
    assert not any(touches(edge) for edge in left) and set(left) < set(whole)


def test_without_induction_heads_nobody_reads_what_previous_token_heads_write():
    assert not any(edge.startswith(("L2H2", "L4H11")) for edge in planted_circuit("without-induction"))
    assert any(edge.startswith("L2H2") for edge in planted_circuit())


def test_moved_heads_take_their_edges_with_them():
    moved = planted_circuit("name-movers-moved")
    for head, place in MOVED_TO.items():
        assert f"{place} -> logits" in moved and f"{head} -> logits" not in moved
    assert len(moved) == len(planted_circuit())


def test_the_links_of_the_paper_are_edges_of_the_plan():
    edges = planted_circuit()
    for mover in (*BACKUPS, *NEGATIVE, Head(9, 9)):
        assert f"{mover} -> logits" in edges and f"L8H10 -> {mover}.q" in edges
    assert all(f"L4H11 -> {head}.k" in edges for head in INDUCTION if head.layer > 4)
    assert edges["L5H5 -> L8H10.v"] == {"address repeated"} and edges["L0H1 -> MLP0"] == {"found", "address found"}
    assert not any(edge.startswith("MLP11") or "L11H11" in edge for edge in edges)


def test_a_head_that_nobody_gives_anything_to_look_for_has_no_edges():
    """It looks for what is written by nobody, and rests; what it would write is written by nobody, either."""
    rests, looks = Look("", "first", 8.0), Look("token", "token before", 30.0)
    alone = {Head(5, 5): Job("induction", (rests, looks), (Move("token", "said", 1.0),))}
    assert not any("L5H5" in edge for edge in wired(alone))
    told = {Head(2, 2): Job("previous token", (rests, Look("fine", "fine", 30.0)), (Move("token", "token before", 1.0),))}
    assert {"L2H2 -> L5H5.k", "L5H5 -> logits"} <= wired(told | alone).keys()


def test_of_other_models_no_edges_are_known():
    assert (known_edges("random") == planted_edges()).all() and (known_edges("shuffled:planted") == planted_edges()).all()
    assert known_edges("planted:without-backups").sum() < planted_edges().sum()
    for subject in ("gpt2", "mini", "random:mini", "planted:without-everything"):
        with pytest.raises(Untested, match=f"the edges of {subject}'s circuit are not known"):
            known_edges(subject)
