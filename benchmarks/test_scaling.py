"""How the cost of a sweep grows: with prompts, with tokens, and with the layers that an intervention can reach.

The FLOPs are exact and are held to what the cone allows; the seconds beside them are for reading.
"""

import itertools
import time
from typing import Any

import pytest
import torch

from benchmarks import machine, ours
from benchmarks.gpt2_small_shaped import Shaped, Work, work
from circuit_claims.engine.edits import Edit

N_PROMPTS = (8, 16, 32, 64, 128, 256)
N_TOKENS = (16, 32, 64, 128, 256)
LAYERS = (0, 3, 6, 9, 11)


def _measured(what: str, function: Any, here: Work, rate: float, scaling: list[dict[str, Any]], **size: int) -> int:
    def run() -> None:
        with torch.inference_mode():
            function()
        machine.synchronise(here.clean.device)

    flops = machine.count_flops(run)
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    scaling.append(
        {
            "sweep": what,
            "prompts": here.n_prompts,
            "tokens": here.n_tokens,
            "from layer": size.get("layer", 0),
            "seconds": seconds,
            "TFLOP": flops / 1e12,
            "of the machine's rate": flops / seconds / rate,
        }
    )
    return flops


def _sizes(sizes: tuple[int, ...], pytestconfig: pytest.Config) -> tuple[int, ...]:
    return sizes[:2] if pytestconfig.getoption("--quick") else sizes


def test_costs_grow_linearly_in_prompts(gpt2_small_shaped: Shaped, rate, scaling, pytestconfig) -> None:
    """The sweep over heads at END: twice the prompts, twice the FLOPs."""
    per_prompt = []
    for n in _sizes(N_PROMPTS, pytestconfig):
        here = work(*gpt2_small_shaped, n, 16)
        flops = _measured("144 heads, z at END", lambda here=here: ours.heads_at_end(here, None), here, rate, scaling)
        per_prompt.append(flops / n)
    assert max(per_prompt) < 1.01 * min(per_prompt)


def test_costs_at_end_grow_no_faster_than_the_runs_and_their_attention(
    gpt2_small_shaped: Shaped, rate, scaling, pytestconfig
) -> None:
    """The sweep over heads at END: its cone is one position wide however long the prompts are."""
    model = gpt2_small_shaped[1]
    found = []
    for n in _sizes(N_TOKENS, pytestconfig):
        here = work(*gpt2_small_shaped, 8, n)
        runs = machine.count_flops(lambda here=here: model.run(torch.cat([here.clean, here.corrupted]), keep=True))
        flops = _measured("144 heads, z at END", lambda here=here: ours.heads_at_end(here, None), here, rate, scaling)
        found.append(flops - runs)
    # What is left is the cone: END's own row, and its attention to the other positions, a few percent of it.
    assert max(found) < 1.1 * min(found)


def test_costs_grow_with_the_positions_of_the_cone(gpt2_small_shaped: Shaped, rate, scaling, pytestconfig) -> None:
    """One head of each layer at all positions: twice the tokens, twice the FLOPs, but for attention, which is a small part."""
    per_token = []
    for n in _sizes(N_TOKENS, pytestconfig):
        here = work(*gpt2_small_shaped, 8, n)
        flops = _measured("12 heads, z at all positions", lambda here=here: _one_head_a_layer(here), here, rate, scaling)
        per_token.append(flops / n)
    assert max(per_token) < 1.1 * min(per_token)


def test_costs_grow_with_the_layers_of_the_cone(gpt2_small_shaped: Shaped, rate, scaling) -> None:
    """The twelve heads of one layer at all positions: each layer that comes after adds the same, and none before it costs."""
    here = work(*gpt2_small_shaped, 8, 16)
    model = here.model
    base = model.run(here.corrupted)
    flops = {}
    for layer in LAYERS:
        z = model.attention(layer, model.run(here.clean).resid[layer]).z
        edits = [[Edit(layer, "z", z[:, :, head], head)] for head in range(model.n_heads)]
        what = "12 heads of one layer, z at all positions"
        flops[layer] = _measured(what, lambda edits=edits: model.intervene(base, edits), here, rate, scaling, layer=layer)
    per_layer = [(flops[a] - flops[b]) / (b - a) for a, b in itertools.pairwise(LAYERS[:-1])]
    assert max(per_layer) < 1.01 * min(per_layer)
    assert flops[11] < flops[9]  # in the last layer END alone is computed


def _one_head_a_layer(here: Work) -> torch.Tensor:
    model = here.model
    clean, corrupted = model.run(here.clean), model.run(here.corrupted)
    edits = [[Edit(layer, "z", model.attention(layer, clean.resid[layer]).z[:, :, 0], 0)] for layer in range(model.n_layers)]
    return here.difference(model.intervene(corrupted, edits))
