"""The two ends of every circuit of edges: with all of them it is the model, with none the model on corrupted prompts.

Both are identities of whoever does the task; where there is no whole to explain, there is no circuit, either.
"""

import pytest

pytestmark = pytest.mark.section("7.2")

SOURCE = "Conmy et al. 2023, section 3; Hanna et al. 2024, section 2 (EAP-06)"
ROUNDING = "an identity: room for single precision"


def test_all_edges_together_are_the_model(discovery, expect):
    """With all edges kept, the circuit does the whole of what the model does."""
    faithfulness = discovery.faithfulness_of(discovery.everything())
    expect(faithfulness, SOURCE, because=ROUNDING).near(1, within=0.001)


def test_without_edges_nothing_of_the_task_is_left(discovery, expect):
    """With no edge kept, the circuit does as badly as the model on corrupted prompts."""
    faithfulness = discovery.faithfulness_of(discovery.nothing())
    expect(faithfulness, SOURCE, because=ROUNDING).near(0, within=0.001)
