"""Each sweep by the engine and by a plain loop over transformers' own forward pass, on a real model: SmolLM2-135M.

Llama's architecture: 30 layers of 9 heads on 3 keys and values, rotary positions, RMS norm, gated MLP.
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import ours, plain_loops
from benchmarks.gpt2_small_shaped import Work, work
from benchmarks.table import Row
from benchmarks.timing import Sweep, Timing, name_of
from circuit_claims.engine.protocol import Engine

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
#: Of prompts that share their beginning, as two that differ in a name do, the engine is spared those positions.
ON_IOI = [replace(sweep, name=sweep.name.replace("16 positions", "14 positions")) for sweep in SWEEPS[2:4]]
NAMES = ("John", "Mary", "Tom", "James", "Dan", "Martin", "Alan", "Chris")


@dataclass(frozen=True)
class Loaded:
    """SmolLM2 as the engine computes it, and as transformers does; and its tokenizer."""

    bridge: Any
    engine: Engine
    own: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def smollm2(device: torch.device) -> Loaded:
    """The model, where it has been fetched (`make smollm2`)."""
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
    tokenizer = load_tokenizer(folder)
    bridge, reference = boot(Path(folder.path), tokenizer, device, torch.float32, "raw")
    engine = choose_engine(bridge, reference, dtype=torch.float32, max_memory=MEMORY_CAP).engine
    assert engine is not None
    own = torch.nn.Module.to(load_model(Path(folder.path), torch.float32), device)
    return Loaded(bridge, engine, own, tokenizer)


@pytest.fixture(scope="module")
def timing(smollm2: Loaded, rate: float, pytestconfig: pytest.Config) -> Timing:
    """Random prompts that differ at every position, as for GPT-2's shape."""
    quick = bool(pytestconfig.getoption("--quick"))
    prompts = work(smollm2.bridge, smollm2.engine, N_PROMPTS_QUICK if quick else N_PROMPTS, N_TOKENS)
    return Timing("SmolLM2-135M, random prompts", prompts.with_own(smollm2.own), rate, quick)


@pytest.fixture(scope="module")
def timing_on_ioi(smollm2: Loaded, rate: float, pytestconfig: pytest.Config) -> Timing:
    """Prompts of one template, whose corrupted twin has the names of the second clause swapped."""
    quick = bool(pytestconfig.getoption("--quick"))
    pairs = list(itertools.combinations(NAMES, 2))[: N_PROMPTS_QUICK if quick else N_PROMPTS]
    opening = "When {} and {} went to the store, {} gave a drink to"
    device = smollm2.engine.W_E.device

    def tokens(texts: list[str]) -> torch.Tensor:
        return torch.tensor(smollm2.tokenizer(texts, add_special_tokens=False).input_ids, device=device)

    clean, corrupted = (tokens([opening.format(*pair, pair[who]) for pair in pairs]) for who in (1, 0))
    answers = torch.cat([tokens([f" {pair[who]}" for pair in pairs]) for who in (0, 1)], dim=1)
    prompts = Work(smollm2.bridge, smollm2.engine, clean, corrupted, answers, smollm2.own)
    return Timing("SmolLM2-135M, IOI prompts", prompts, rate, quick)


@pytest.mark.parametrize("side", ["ours", "peer"])
@pytest.mark.parametrize("sweep", SWEEPS, ids=name_of)
def test_sweep_of_a_real_decoder(sweep: Sweep, side: str, benchmark, timing: Timing, rows: list[Row]) -> None:
    """The engine's grid is the loop's."""
    if side == "ours":
        timing.ours(sweep, benchmark)
    else:
        rows.append(timing.peer(sweep, benchmark))


@pytest.mark.parametrize("side", ["ours", "peer"])
@pytest.mark.parametrize("sweep", ON_IOI, ids=name_of)
def test_sweep_on_ioi_prompts(sweep: Sweep, side: str, benchmark, timing_on_ioi: Timing, rows: list[Row]) -> None:
    """The engine's grid is the loop's."""
    if side == "ours":
        timing_on_ioi.ours(sweep, benchmark)
    else:
        rows.append(timing_on_ioi.peer(sweep, benchmark))
