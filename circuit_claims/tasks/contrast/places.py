"""Where in a model the answers of pairs are: what the residual stream has at one marked position, some way up the layers."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from circuit_claims.engine.edits import Edit
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.contrasts.prompt import CORRUPTED
from circuit_claims.tasks.operations.head_parts import block_output
from circuit_claims.tasks.operations.sweeps import SHARE

if TYPE_CHECKING:
    from circuit_claims.tasks.contrast.task import ContrastTask


def recovery_at(task: "ContrastTask", role: str, depth: float) -> Measurement:
    """Recovery for the stream at one position before one layer, patched clean into corrupted: one cell of `residual_sweep`.

    role: a mark, or END. depth: the share of the layers that are below, rounded down, so that one claim speaks of models of any
    number of layers; 1 means before the last layer.

    Raises ValueError for a depth that is none, and for a role that the pairs do not mark.
    """
    if not 0 <= depth <= 1:
        raise ValueError(f"a depth is a share of the layers, from 0 to 1, and not {depth}")
    if role not in task.population.roles:
        raise ValueError(f"these pairs mark no {role!r}: give one of {', '.join(task.population.roles)}")
    layers = task.subject.transformer.n_layers
    layer = min(int(depth * layers), layers - 1)

    def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
        rows = torch.arange(len(clean.tokens), device=clean.tokens.device)[:, None]
        stream = block_output(task, clean, layer, "resid_pre")[rows, clean.at(role)]
        edit = Edit(layer, "resid_pre", stream, None, corrupted.at(role))
        return task.recovered(clean, corrupted, [[edit]])[0][:, 0]

    name = f"recovery by the stream at {role} before layer {layer} of {layers}"
    won_back = task.pairs(name, CORRUPTED, task.metric.unit, measure).presupposing(task.competence())
    return won_back.share_of(task.baseline(CORRUPTED), f"{name} ({CORRUPTED}){task.under}", SHARE)
