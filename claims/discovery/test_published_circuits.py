"""Published numbers of circuits that algorithms find: MIB's table, and the outputs in EAP-IG's repository."""

import pytest

pytestmark = pytest.mark.section("7.3")

METHODS = ["EAP", "EAP-IG inputs", "EAP-IG activations"]


@pytest.mark.parametrize("method", ["random", *METHODS])
def test_the_distance_from_the_model_is_as_published(discovery, published, expect, method):
    """Over ten sizes, circuits found by {method} are as far from the model as published (CMD)."""
    expected = published[f"mib cmd {method}"]
    expect(discovery.cmd(method)).near(expected)


@pytest.mark.parametrize("method", ["random", *METHODS])
def test_the_performance_is_as_published(discovery, published, expect, method):
    """Over ten sizes, circuits of the edges that help most by {method} do as much of the task as published (CPR)."""
    expected = published[f"mib cpr {method}"]
    expect(discovery.cpr(method)).near(expected)


def test_a_circuit_of_300_edges_by_EAP_does_hardly_anything(discovery, published, expect):
    """On IOI, the 300 best edges by EAP keep as little of the task as published."""
    expected = published["eap 300 faithfulness"]
    expect(discovery.faithfulness_of(discovery.circuit("EAP", 300, search="top"))).near(expected)


@pytest.mark.parametrize("method", ["EAP", "EAP-IG inputs"])
def test_circuits_of_200_edges_for_year_spans_do_as_much_as_published(greater_than_discovery, published, expect, method):
    """On year spans, the circuit of 200 edges by {method} has the published probability difference."""
    expected = published[f"greater than 200 edges {method}"]
    circuit = greater_than_discovery.circuit(method, 200)
    expect(greater_than_discovery.value_of(circuit)).near(expected)
