"""Which engine computes a subject: the one place that knows more than the protocol."""

from typing import Any, NamedTuple

import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.unsupported import UnsupportedArchitecture
from circuit_claims.models.subject_error import first_line
from circuit_claims.subjects.faithful_boot import Reference

#: What `check_against` allows between an engine's forward pass and the bridge's, by dtype; what it is a share of, each says.
AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.5, torch.float16: 0.1}
#: In the order in which they are tried: plain tensors for GPT-2's family, the model's own modules, and hooks for what is left.
ENGINES: tuple[type[Transformer] | type[ModuleDecoder] | type[HookedDecoder], ...] = (
    Transformer,
    ModuleDecoder,
    HookedDecoder,
)


class Choice(NamedTuple):
    """The engine of a subject, None where none computes its forward pass; and why the ones before it were not taken."""

    engine: Engine | None
    refused: dict[type, str]

    @property
    def why(self) -> str:
        """What was wrong with the last one that was tried."""
        return next(reversed(self.refused.values()), "")

    @property
    def remark(self) -> str:
        """What a run says of it: that interventions take longer than they might, and why; nothing where they do not."""
        if self.engine is None or ModuleDecoder not in self.refused:
            return ""
        return f"interventions: through hooks and over whole sequences, which takes longer ({self.refused[ModuleDecoder]})"


def choose_engine(bridge: Any, reference: Reference, *, dtype: torch.dtype, max_memory: int) -> Choice:
    """The first engine whose forward pass is the bridge's own and the loaded model's.

    reference: what the model gave before it was wrapped. max_memory: bytes for the activations of interventions under way.
    """
    refused: dict[type, str] = {}
    for kind in ENGINES:
        try:
            # Weights are put side by side in plain tensors, whoever asks first: gradients cannot pass inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                engine = kind(bridge, max_memory)
            with torch.inference_mode():
                engine.check_against(bridge, reference.tokens, AGREEMENT[dtype])
                logits = engine.logits(engine.run(reference.tokens).resid[-1])
            if not reference.agrees(logits):
                off = reference.off(logits)
                raise UnsupportedArchitecture(f"it is not the model as loaded (off by {off:.2g} of its spread)")
            return Choice(engine, refused)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError, StopIteration) as error:
            # In these ways a model's parts are missed that a bridge's accessors, or a known plan, take for granted.
            refused[kind] = first_line(error)
    return Choice(None, refused)
