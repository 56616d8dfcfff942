"""The engine that the suite computes a family's tiny model with, its plain twin, and what an engine may refuse."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import MEMORY_CAP
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.subjects.engine_choice import choose_engine
from circuit_claims.subjects.faithful_boot import Reference
from tests.support.decoders.families import FAMILIES, PARALLEL, POST_NORMED, UNLIKE, tiny
from tests.support.decoders.plain import PlainDecoder

#: What engines and twins may differ by, as a share of the spread of what they give.
TOLERANCE = 1e-5
#: What an edit must change at least, as a share likewise, for an agreement about it to mean something.
EFFECT = 1e-3

#: Behind a family's name, the path through hooks in place of the engine that is chosen.
THROUGH_HOOKS = " through hooks"
#: What edits and paths are tested on: the chosen engine of each family, and the other one on some that are unlike each other.
DECODERS = (*UNLIKE, *(family + THROUGH_HOOKS for family in ("gpt2", "gpt-neo", "neox", "llama biases", "gemma3", "olmo2")))

#: What no engine can do in some families: by what is asked for, the families, and the reason that is given.
REFUSED: dict[str, tuple[Collection[str], str]] = {
    "resid_mid": (PARALLEL, "side by side"),
    "mlp_out": (PARALLEL, "side by side"),
    "trace": (PARALLEL, "side by side"),
    "path_patch_parts": (PARALLEL | POST_NORMED, "side by side|do not simply add up"),
    "head_out": (POST_NORMED, "do not simply add up"),
    "token_embeddings": (("gemma2", "gemma3", "granite"), "scales its embeddings"),
    "frozen_norm": (("opt without final norm",), "no final norm"),
}
UNGROUPED = frozenset(family for family in FAMILIES if family.startswith(("gpt", "neox", "opt", "phi")) and family != "phi3")
#: What the path through hooks cannot do besides.
REFUSED_BY_HOOKS: dict[str, tuple[Collection[str], str]] = {
    "attributions": (FAMILIES, "attribution patching takes gradients"),
    "pattern": (("gpt-neo", "gpt-j", "opt"), "does not change what it should"),
    "pattern_with_keys": (set(FAMILIES) - UNGROUPED - {"llama"}, "share keys in groups"),
}


class Real(NamedTuple):
    """A family's tiny model twice: as an engine computes it, and as transformers does."""

    name: str
    family: str
    engine: Engine
    plain: PlainDecoder

    @property
    def parallel(self) -> bool:
        return self.family in PARALLEL

    @contextmanager
    def may_refuse(self, what: str) -> Iterator[None]:
        """Let the engine refuse this, for the reason that is known for this family; the rest of the block is left out then."""
        try:
            yield
        except Unsupported as refusal:
            tables = (REFUSED, REFUSED_BY_HOOKS) if isinstance(self.engine, HookedDecoder) else (REFUSED,)
            reasons = [table[what][1] for table in tables if what in table and self.family in table[what][0]]
            assert any(re.search(reason, str(refusal)) for reason in reasons), f"{what} of {self.family} is refused: {refusal}"


def make_engine(
    model: Any, *, through_hooks: bool = False, processed: bool = False, dtype: torch.dtype = torch.float32
) -> Engine:
    """The engine of a model as transformers built it: the one that the suite chooses, or the path through hooks.

    processed: with its weights as TransformerLens processes them.

    Raises RuntimeError, with the reason, where there is none.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    tokens = torch.randint(3, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    reference = Reference.of(model, tokens)
    model.config.architectures = [type(model).__name__]
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["mini"], local_files_only=True)  # of which the bridge wants a folder
    bridge: Any = TransformerBridge.boot_transformers("tiny", hf_model=model, tokenizer=tokenizer, device="cpu", dtype=dtype)
    if processed:
        bridge.enable_compatibility_mode(disable_warnings=True)
    bridge.eval().requires_grad_(False)
    if through_hooks:
        hooked = HookedDecoder(bridge)
        hooked.check_against(bridge, tokens[:1, :8], 1e-3)
        return hooked
    choice = choose_engine(bridge, reference, dtype=dtype, max_memory=MEMORY_CAP)
    if choice.engine is None:
        raise RuntimeError(choice.why)
    return choice.engine


@cache
def plain(family: str) -> PlainDecoder:
    """A family's twin, made once for all tests."""
    return PlainDecoder(tiny(family))


@cache
def real(name: str) -> Real:
    """A family's engine and twin, likewise; or of a family and `THROUGH_HOOKS`, that path and its twin."""
    family = name.removesuffix(THROUGH_HOOKS)
    return Real(name, family, make_engine(tiny(family), through_hooks=name != family), plain(family))


def spread(values: Tensor) -> float:
    """How far values are apart."""
    return float(values.max() - values.min())


def off(ours: Tensor, theirs: Tensor) -> float:
    """How far two results are from each other, as a share of the spread of the second."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} is not {tuple(theirs.shape)}"
    return float((ours - theirs).abs().max()) / spread(theirs)


def agree(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two results are the same, but for rounding."""
    return off(ours, theirs) <= tolerance


#: Two batches of 3 × 9 tokens that differ from position 3 on, END included.
DIFFERENT_FROM = 3
CLEAN = torch.randint(5, 200, (3, 9), generator=torch.Generator().manual_seed(3))
CORRUPTED = torch.cat([CLEAN[:, :DIFFERENT_FROM], (CLEAN[:, DIFFERENT_FROM:] * 7 + 11) % 195 + 5], dim=1)
END = torch.full((3, 1), 8)
#: A different position in every prompt; and two in each.
SCATTERED = torch.tensor([[5], [6], [7]])
TWO = torch.tensor([[5, 8], [6, 8], [4, 8]])
ALL = torch.arange(9).expand(3, 9)
