"""Docstrings: after the first two parameters of a function, the third is documented (Heimersheim & Janiak 2023).

The source is about a model of four layers of attention alone. Its magnitudes are that model's, and stand in no claim.
"""

import pytest

pytestmark = pytest.mark.section("5.7")

SOURCE = "Heimersheim & Janiak 2023"
PLACES = f"{SOURCE}, of another model: a head of its last layer copies the parameter from the definition"


def test_the_parameters_are_documented_in_their_order(docstrings, expect):
    """The third parameter is preferred to the fourth on clearly more than half of the pairs."""
    because = "clearly more than half, what a coin gives"
    expect(docstrings.prefers_answer(), f"{SOURCE}: the task", because=because).rate_at_least(0.5)


def test_the_definition_in_another_order_turns_the_parameter(docstrings, expect):
    """With the third and the fourth parameter of the definition exchanged, the other one is preferred on average."""
    turned = docstrings.changed().logit_difference().presupposing(docstrings.competence())
    expect(turned, f"{SOURCE}: the order is that of the definition").below(0)


def test_the_definition_holds_the_parameter_through_the_first_quarter_of_the_layers(docstrings, expect):
    """A quarter of the way up, the stream at the third parameter of the definition restores more than half of the answer."""
    expect(docstrings.recovery_at("C_def", 1 / 4), PLACES, because="most: over half").above(0.5)


def test_the_docstring_does_not_hold_the_parameter(docstrings, expect):
    """Half of the way up, the stream at the second parameter of the docstring restores less than a tenth of the answer."""
    expect(docstrings.recovery_at("B_doc", 1 / 2), PLACES, because="a tenth").below(0.1)


def test_the_end_has_the_parameter_before_the_last_layer(docstrings, expect):
    """Before the last layer, the stream at the end restores more than half of the answer."""
    expect(docstrings.recovery_at("END", 1), PLACES, because="most: over half").above(0.5)


def test_the_end_lacks_the_parameter_in_the_first_quarter_of_the_layers(docstrings, expect):
    """A quarter of the way up, the stream at the end restores less than a tenth of the answer."""
    expect(docstrings.recovery_at("END", 1 / 4), PLACES, because="a tenth").below(0.1)
