"""Published numbers of circuits that algorithms find: MIB's table, and the outputs in EAP-IG's repository."""

import pytest

pytestmark = pytest.mark.section("7.3")

METHODS = ["EAP", "EAP-IG inputs", "EAP-IG activations"]


@pytest.mark.parametrize("method", ["random", *METHODS])
def test_the_distance_from_the_model_is_as_published(discovery, card, expect, method):
    """Over ten sizes, circuits found by {method} are as far from the model as published (CMD)."""
    expect(discovery.cmd(method)).near(card[f"mib cmd {method}"])


@pytest.mark.parametrize("method", ["random", *METHODS])
def test_the_performance_is_as_published(discovery, card, expect, method):
    """Over ten sizes, circuits of the edges that help most by {method} do as much of the task as published (CPR)."""
    expect(discovery.cpr(method)).near(card[f"mib cpr {method}"])


def test_random_edges_never_do_more_than_the_model(discovery, expect):
    """For circuits of random edges, the area under faithfulness and the one up to 1 add up to 1."""
    source = "MIB, Mueller et al. 2025, tables 1 and 2: .25 + .75, an identity where faithfulness stays below 1"
    because = "1, of which trapezoids from .001 on lose .001"
    expect(discovery.area_of_both("random"), source, because=because).near(1, within=0.05)


def test_a_circuit_of_300_edges_by_EAP_does_hardly_anything(discovery, card, expect):
    """On IOI, the 300 best edges by EAP keep as little of the task as published."""
    circuit = discovery.circuit("EAP", 300, search="top")
    expect(discovery.faithfulness_of(circuit)).near(card["eap 300 faithfulness"])


@pytest.mark.parametrize("method", ["EAP", "EAP-IG inputs"])
def test_circuits_of_200_edges_for_year_spans_do_as_much_as_published(greater_than_discovery, card, expect, method):
    """On year spans, the circuit of 200 edges by {method} has the published probability difference."""
    expected = card[f"greater than 200 edges {method}"]
    circuit = greater_than_discovery.circuit(method, 200)
    expect(greater_than_discovery.value_of(circuit)).near(expected)
