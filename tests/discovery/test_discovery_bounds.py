"""What discovery leaves out of a card, since no model could miss it."""

import pytest

from circuit_claims.discovery.findings import Findings, Table, Value, without_empty_bounds

SHAPE = (3, 4)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Value(0.5, "rate", within=0.6), "cannot fail"),
        (Value(1, "layer", within=2), "cannot fail"),
        (Value(12, "rank"), "counts 12 of 12 heads"),
        (Value(-0.1, "rate"), "says -0.1"),
        (Value(0.2, "correlation", within=1.2), "cannot fail"),
    ],
)
def test_a_number_that_a_card_may_not_have_is_left_out_with_the_reason(value, why):
    kept = without_empty_bounds(Findings({"x": value, "y": Value(3.5, "logits", within=9.0)}), SHAPE)
    assert list(kept.values) == ["y"] and why in kept.left_out["x"] and "write ends" not in kept.left_out["x"]


def test_a_table_that_a_card_may_not_have_is_left_out_with_the_reason():
    wide, good = Table(("a",), {"b": (0.5,)}, 0.6, "rate"), Table(("a",), {"b": (0.5,)}, 0.1, "rate")
    kept = without_empty_bounds(Findings(tables={"x": wide, "y": good}, left_out={"z": "not there"}), SHAPE)
    assert list(kept.tables) == ["y"] and "cannot fail" in kept.left_out["x"] and kept.left_out["z"] == "not there"
