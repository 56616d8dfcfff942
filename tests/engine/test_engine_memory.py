"""What the engine of a model's own modules makes besides the weights: no copy of an unembedding, and no more than the cap."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.edits import Edit
from tests.support.decoders.engines import make_engine
from tests.support.decoders.families import tiny

#: Many times what the rest of the model is wide.
VOCABULARY = 5000


class Largest(TorchDispatchMode):
    """Notes the largest tensor, in bytes, that an operation makes anew in here; views of what is there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        there = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in there:
                self.n_bytes = max(self.n_bytes, leaf.untyped_storage().nbytes())
        return out


def largest(function: Callable[[], Any]) -> int:
    with torch.no_grad(), Largest() as seen:
        function()
    return seen.n_bytes


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "qwen3", "mistral"])
def test_no_copy_of_the_unembedding_is_made(family):
    """Not on loading, and not where answers are read off many streams."""
    engine = make_engine(tiny(family, vocabulary=VOCABULARY))
    assert isinstance(engine, ModuleDecoder)
    whole = VOCABULARY * engine.d_model * 4
    assert engine.W_U.untyped_storage().data_ptr() == engine._head.weight.untyped_storage().data_ptr()
    streams, answers = torch.randn(20, 3, engine.d_model), torch.tensor([[7, 4999], [1, 2], [30, 4000]])
    assert largest(lambda: engine.answer_logits(streams, answers)) < whole / 10
    assert largest(lambda: engine.logits(streams[:3])) < whole / 3, "of nine streams, the logits themselves are a quarter of it"
    assert largest(lambda: engine.W_U.clone(memory_format=torch.contiguous_format)) >= whole, "the test sees a copy"


@pytest.mark.parametrize("family", ["llama", "neox", "gemma2"])
def test_interventions_stay_below_the_cap(family, monkeypatch):
    for module in ("layer", "steps", "modules"):
        monkeypatch.setattr(f"circuit_claims.engine.decoder.{module}.ROWS", 128)
    engine = make_engine(tiny(family))
    tokens = torch.randint(5, 200, (200, 9), generator=torch.Generator().manual_seed(0))
    base, other = engine.run(tokens, keep=True), engine.run(tokens.flip(0), keep=True)
    edits = [[Edit(layer, "resid_pre", other.resid[layer])] for layer in range(engine.n_layers)]
    whole = largest(lambda: engine.intervene(base, edits))
    cap = 150_000  # above what 128 rows are inside a layer, and what is given back
    assert largest(lambda: engine.intervene(base, edits, memory=cap)) <= cap < whole / 3
    split = engine.intervene(base, edits, memory=cap)
    assert (split - engine.intervene(base, edits)).abs().max() < 1e-5 * float(split.abs().max())
