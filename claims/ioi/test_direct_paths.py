"""The last steps of the circuit: what movers write into the logits, and who tells the negative ones where to look."""

import pytest

pytestmark = pytest.mark.section("3.1")

FIGURE_3 = "Wang et al. 2022, section 3.1 and figure 3b"
TWENTIETH = "more than next to nothing, a twentieth"


def test_name_movers_write_the_answer(ioi, card, expect):
    """Path patching (ABC) the name movers together into the logits loses logit difference."""
    path = ioi.path(card.heads("name mover"), to="logits")
    expect(path.share(), f"{FIGURE_3}: the biggest drops", because=TWENTIETH).above(0.05)


def test_negative_name_movers_write_against_the_answer(ioi, card, expect):
    """Path patching (ABC) the negative name movers together into the logits raises the logit difference."""
    path = ioi.path(card.heads("negative name mover"), to="logits")
    expect(path.share(), f"{FIGURE_3}: the biggest increases", because=TWENTIETH).below(-0.05)


def test_S_inhibition_turns_the_negative_name_movers_to_IO(ioi, card, expect):
    """Path patching (ABC) the S-inhibition heads into the negative name movers' queries raises the logit difference."""
    path = ioi.path(card.heads("S-inhibition"), to=card.heads("negative name mover"), into="q")
    source = (
        "Wang et al. 2022, figure 2, and section 3.1: negative name movers share the name movers' properties; no number given"
    )
    expect(path.share(), source).below(0)
