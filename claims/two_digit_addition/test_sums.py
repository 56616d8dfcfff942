"""Two-digit addition: "12+31=43;54+25=79;23+45=" goes on with "68".

Where numbers are split into digits, answer and foil are told apart by their first digit. The sources are about larger models,
and no magnitude of theirs stands in a claim; their order of events does: operands early, the end late.
"""

TASK = "Nikankin et al. 2024; Stolfo et al. 2023; MIB (Mueller et al. 2025)"
PLACES = (
    "Stolfo et al. 2023: operands pass from early layers in mid-sequence to the last token; in which quarter, our definition"
)


def test_the_right_sum_is_preferred(two_digit_addition, expect):
    """The right sum is preferred to one that is wrong in its tens on clearly more than half of the pairs."""
    because = "clearly more than half, what a coin gives"
    expect(two_digit_addition.prefers_answer(), TASK, because=because).rate_at_least(0.5)


def test_another_operand_turns_the_sum(two_digit_addition, expect):
    """With other tens in the first operand, the sum that was wrong before is preferred on average."""
    turned = two_digit_addition.changed().logit_difference().presupposing(two_digit_addition.competence())
    expect(turned, "Stolfo et al. 2023: another operand in the corrupted prompt").below(0)


def test_the_end_lacks_the_sum_in_the_first_quarter_of_the_layers(two_digit_addition, expect):
    """A quarter of the way up, the stream at the end restores less than a tenth of the answer."""
    expect(two_digit_addition.recovery_at("END", 1 / 4), PLACES, because="a tenth").below(0.1)


def test_the_operand_is_read_by_three_quarters_of_the_layers(two_digit_addition, expect):
    """Three quarters of the way up, the stream at the first operand's last token restores less than a tenth of the answer."""
    expect(two_digit_addition.recovery_at("first", 3 / 4), PLACES, because="a tenth").below(0.1)


def test_the_end_has_the_sum_before_the_last_layer(two_digit_addition, expect):
    """Before the last layer, the stream at the end restores more than half of the answer."""
    expect(two_digit_addition.recovery_at("END", 1), PLACES, because="most: over half").above(0.5)
