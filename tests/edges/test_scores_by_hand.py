"""Scores of edges against their definitions, written out edge by edge on a model of two layers in double precision."""

import pytest
import torch

from circuit_claims.edges.attribution import eap, eap_ig_activations, eap_ig_inputs
from circuit_claims.edges.edge import Edge, Sender
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.saturation import atp_qk_fix
from tests.edges.conftest import Pairs

ROWS = range(2)


def table(two_layers: Pairs, score) -> torch.Tensor:
    """`score(row, edge)` of every prompt and edge."""
    graph = EdgeGraph.of(two_layers.model)
    return torch.tensor([[float(score(row, edge)) for edge in graph] for row in ROWS], dtype=torch.float64)


def written(two_layers: Pairs, run: str, row: int) -> dict[Sender, torch.Tensor]:
    return two_layers.plain.run(getattr(two_layers, run).tokens[row])[0]


def by_hand(two_layers: Pairs, passes) -> torch.Tensor:
    """The change of each sender times the receiver's gradient, summed over positions, averaged over passes.

    passes: from a prompt's number to what senders write, whatever they read, in each pass.
    """
    plain, graph, found = two_layers.plain, EdgeGraph.of(two_layers.model), []
    for row in ROWS:
        clean, corrupted = (written(two_layers, run, row) for run in ("clean", "corrupted"))
        total = dict.fromkeys(graph, 0.0)
        all_fixed = list(passes(clean, corrupted))
        for fixed in all_fixed:
            fixed = {Sender(): clean[Sender()]} | fixed
            fixed[Sender()] = fixed[Sender()].clone().requires_grad_()
            _, logits, read = plain.run(two_layers.clean.tokens[row], fixed=fixed)
            value = two_layers.plain_value(row, logits)
            gradients = torch.autograd.grad(value, list(read.values()), allow_unused=True)
            by_receiver = dict(zip(read, gradients, strict=True))
            for edge in graph:
                gradient = by_receiver[edge.receiver]
                change = clean[edge.sender] - corrupted[edge.sender]
                total[edge] += 0.0 if gradient is None else float((change * gradient).sum())
        found.append([total[edge] / len(all_fixed) for edge in graph])
    return torch.tensor(found, dtype=torch.float64)


def test_exact_effects_are_what_passes_with_one_edge_noised_give(two_layers):
    graph, plain = EdgeGraph.of(two_layers.model), two_layers.plain
    found = exact_effects(two_layers.model, two_layers.clean, two_layers.corrupted, two_layers.value)

    def noised(row: int, edge: Edge) -> float:
        tokens = two_layers.clean.tokens[row]
        before = two_layers.plain_value(row, plain.run(tokens)[1])
        after = plain.run(tokens, written(two_layers, "corrupted", row), set(graph) - {edge})[1]
        return float(before - two_layers.plain_value(row, after))

    expected = table(two_layers, noised)
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() < 1e-8


def test_eap_is_the_change_of_the_sender_times_the_gradient_of_the_receiver_on_the_clean_prompt(two_layers):
    """Syed et al. 2023, section 3, with the sign of what noising costs."""
    found = eap(two_layers.model, two_layers.clean, two_layers.corrupted, two_layers.value)
    expected = by_hand(two_layers, lambda clean, corrupted: [{}])
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() < 1e-8


def test_eap_is_the_slope_of_noising_an_edge_a_little(two_layers):
    graph, plain, step = EdgeGraph.of(two_layers.model), two_layers.plain, 1e-6

    def slope(row: int, edge: Edge) -> float:
        clean, corrupted = (written(two_layers, run, row) for run in ("clean", "corrupted"))
        ends = []
        for share in (step, -step):
            instead = {sender: torch.lerp(clean[sender], corrupted[sender], share) for sender in clean}
            logits = plain.run(two_layers.clean.tokens[row], instead, set(graph) - {edge})[1]
            ends.append(float(two_layers.plain_value(row, logits)))
        return (ends[1] - ends[0]) / (2 * step)

    found = eap(two_layers.model, two_layers.clean, two_layers.corrupted, two_layers.value)
    assert (found - table(two_layers, slope)).abs().max() < 1e-5


@pytest.mark.parametrize("steps", [1, 4])
def test_eap_ig_inputs_averages_over_embeddings_from_the_corrupted_to_the_clean_prompt(two_layers, steps):
    """Hanna et al. 2024: the authors' steps are 0, 1/n, …, (n − 1)/n of the way."""
    found = eap_ig_inputs(two_layers.model, two_layers.clean, two_layers.corrupted, two_layers.value, steps=steps)

    def passes(clean, corrupted):
        for step in range(steps):
            yield {Sender(): corrupted[Sender()] + step / steps * (clean[Sender()] - corrupted[Sender()])}

    expected = by_hand(two_layers, passes)
    assert (found - expected).abs().max() < 1e-8
    assert (expected - by_hand(two_layers, lambda *_: [{}])).abs().max() > 0.05, "interpolation must make a difference"


def test_eap_ig_activations_averages_over_passes_with_one_part_interpolated(two_layers):
    """MIB: the embedding, then each layer's attention and MLP, at 1/n, …, 1 of the way to the clean prompt."""
    steps, model = 3, two_layers.model
    found = eap_ig_activations(model, two_layers.clean, two_layers.corrupted, two_layers.value, steps=steps)

    def passes(clean, corrupted):
        parts = [[Sender()]]
        for layer in range(model.n_layers):
            parts += [[Sender(layer, head) for head in range(model.n_heads)], [Sender(layer)]]
        for part in parts:
            for step in range(1, steps + 1):
                yield {s: (step / steps * clean[s] + (1 - step / steps) * corrupted[s]).detach() for s in part}

    expected = by_hand(two_layers, passes)
    assert (found - expected).abs().max() < 1e-8
    assert (expected - by_hand(two_layers, lambda *_: [{}])).abs().max() > 0.05


def test_the_qk_fix_is_the_change_of_the_pattern_times_its_gradient(two_layers):
    """Kramár et al. 2024, section 3.1: the pattern with the query or key changed, and the gradient of the clean pattern."""
    plain, model = two_layers.plain, two_layers.model
    found = atp_qk_fix(model, two_layers.clean, two_layers.corrupted, two_layers.value)
    linear, plain_eap = (
        eap(model, two_layers.clean, two_layers.corrupted, two_layers.value),
        by_hand(two_layers, lambda *_: [{}]),
    )
    tables = {}
    for row in ROWS:
        start = written(two_layers, "clean", row)[Sender()].clone().requires_grad_()
        _, logits, read = plain.run(two_layers.clean.tokens[row], fixed={Sender(): start})
        patterns = dict(plain.patterns)
        gradients = torch.autograd.grad(two_layers.plain_value(row, logits), list(patterns.values()))
        tables[row] = read, patterns, dict(zip(patterns, gradients, strict=True))

    def fixed(row: int, edge: Edge) -> float:
        sender, receiver = edge
        if receiver.input not in ("q", "k"):
            return float(plain_eap[row, EdgeGraph.of(model).index(edge)])
        read, patterns, gradients = tables[row]
        clean, corrupted = (written(two_layers, run, row)[sender] for run in ("clean", "corrupted"))
        layer, head, which = receiver.layer, receiver.head, str(receiver.input)
        streams = {one: read[receiver._replace(input=one)] for one in ("q", "k")}
        streams[which] = streams[which] - (clean - corrupted)
        q, k = (plain.project(layer, head, one, streams[one]) for one in "qk")
        change = patterns[layer, head] - plain.pattern(q, k)
        return float((change * gradients[layer, head]).sum().detach())

    expected = table(two_layers, fixed)
    assert (found - expected).abs().max() < 1e-8
    assert (found - linear).abs().max() > 0.02, "attention must not be linear"
