"""Each sweep by the engine and by a plain loop over transformers' own forward pass, on a real model: SmolLM2-135M.

Llama's architecture: 30 layers of 9 heads on 3 keys and values, rotary positions, RMS norm, gated MLP.
"""

from pathlib import Path

import pytest
import torch

from benchmarks import ours, plain_loops
from benchmarks.gpt2_small_shaped import work
from benchmarks.table import Row
from benchmarks.timing import Sweep, Timing, name_of

N_PROMPTS, N_TOKENS = 16, 16
N_PROMPTS_QUICK = 2
A_LOOP = "a loop of hooks over transformers"

SWEEPS = [
    Sweep("270 heads, z at END", ours.heads_at_end, A_LOOP, plain_loops.heads_at_end, 25, 30),
    Sweep(
        "270 heads, z at END",
        ours.heads_at_end,
        "attribution patching",
        plain_loops.attribution_patching,
        1 / 2,
        exact=False,
    ),
    Sweep(
        "270 heads × 16 positions, z",
        ours.heads_at_every_position,
        A_LOOP,
        plain_loops.heads_at_every_position,
        8,
        720,
        peer_thinned=48,
    ),
    Sweep(
        "30 layers × 16 positions, residual stream",
        ours.residual_stream,
        A_LOOP,
        plain_loops.residual_stream,
        6,
        60,
        peer_thinned=8,
    ),
    Sweep("path patching, 270 senders → logits", ours.paths_to_logits, A_LOOP, plain_loops.paths_to_logits, 60, 30),
]


@pytest.fixture(scope="module")
def timing(device: torch.device, rate: float, pytestconfig: pytest.Config) -> Timing:
    """Random prompts that differ at every position, as for GPT-2's shape."""
    from circuit_claims.engine.run import MEMORY_CAP
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.subjects.engine_choice import choose_engine
    from circuit_claims.subjects.faithful_boot import boot, load_model
    from circuit_claims.subjects.find import find_folder
    from circuit_claims.subjects.tokenizer import load_tokenizer

    try:
        folder = find_folder("smollm2")
    except SubjectError as error:
        pytest.skip(str(error))
    bridge, reference = boot(Path(folder.path), load_tokenizer(folder), device, torch.float32, "raw")
    engine = choose_engine(bridge, reference, dtype=torch.float32, max_memory=MEMORY_CAP).engine
    assert engine is not None
    quick = bool(pytestconfig.getoption("--quick"))
    prompts = work(bridge, engine, N_PROMPTS_QUICK if quick else N_PROMPTS, N_TOKENS)
    own = load_model(Path(folder.path), torch.float32)
    return Timing("SmolLM2-135M", prompts.with_own(torch.nn.Module.to(own, device)), rate, quick)


@pytest.mark.parametrize("side", ["ours", "peer"])
@pytest.mark.parametrize("sweep", SWEEPS, ids=name_of)
def test_sweep_of_a_real_decoder(sweep: Sweep, side: str, benchmark, timing: Timing, rows: list[Row]) -> None:
    """The engine's grid is the loop's."""
    if side == "ours":
        timing.ours(sweep, benchmark)
    else:
        rows.append(timing.peer(sweep, benchmark))
