"""What edges carry: by how much what each sender writes differs between the clean and the corrupted prompt."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.edges.written import Streams, difference, in_the_stream, outputs_of
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import Run, slice_run

#: A number a prompt, from final streams at END `[*n, prompt, d_model]` of all prompts that are measured together.
Value = Callable[[Float[Tensor, "*n prompt d_model"]], Float[Tensor, "*n prompt"]]


def changes(model: Engine, clean: Run, corrupted: Run) -> tuple[Float[Tensor, "prompt sender pos d_model"], Streams]:
    """What each sender writes on the clean prompt less what it writes on the corrupted one, and the clean prompt's streams.

    Taking an edge's change from what its receiver reads noises the edge.
    """
    outputs, streams = outputs_of(model, clean)
    return in_the_stream(model, difference(outputs, outputs_of(model, corrupted)[0])), streams


def in_prompts(
    clean: Run,
    corrupted: Run,
    value: Callable[[slice], Value],
    bytes_of_one: int,
    memory: int,
    measure: Callable[[Run, Run, Value], Float[Tensor, "prompt edge"]],
) -> Float[Tensor, "prompt edge"]:
    """A measure of every prompt by itself, as many at a time as memory allows, and one at least.

    value: of some of the prompts; bytes_of_one: what one prompt takes.
    """
    n_prompts = len(clean.tokens)
    step, parts = max(1, memory // bytes_of_one), []
    for first in range(0, n_prompts, step):
        some = slice(first, min(n_prompts, first + step))
        parts.append(measure(slice_run(clean, some), slice_run(corrupted, some), value(some)))
    return torch.cat(parts)
