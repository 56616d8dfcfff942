"""Which engine computes a subject: the one place that knows more than the protocol."""

from typing import Any

import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.unsupported import UnsupportedArchitecture
from circuit_claims.models.subject_error import first_line
from circuit_claims.subjects.faithful_boot import Reference

#: What `check_against` allows between an engine's forward pass and the bridge's, in log-probability, by dtype.
AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.5, torch.float16: 0.1}
#: In the order in which they are tried: plain tensors for GPT-2's family, the model's own modules, and hooks for what is left.
ENGINES: tuple[type[Transformer] | type[ModuleDecoder] | type[HookedDecoder], ...] = (
    Transformer,
    ModuleDecoder,
    HookedDecoder,
)


def choose_engine(bridge: Any, reference: Reference, *, dtype: torch.dtype, max_memory: int) -> Engine | str:
    """The first engine whose forward pass is the bridge's own and the loaded model's; a sentence where none is.

    reference: what the model gave before it was wrapped. max_memory: bytes for the activations of interventions under way.
    """
    tokens = torch.arange(2, 10, device=bridge.cfg.device)[None] % bridge.cfg.d_vocab
    why = ""
    for kind in ENGINES:
        try:
            # Weights are put side by side in plain tensors, whoever asks first: gradients cannot pass inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                engine = kind(bridge, max_memory)
            with torch.inference_mode():
                engine.check_against(bridge, tokens, AGREEMENT[dtype])
                logits = engine.logits(engine.run(reference.tokens).resid[-1])
            if not reference.agrees(logits):
                off = reference.off(logits)
                raise UnsupportedArchitecture(f"it is not the model as loaded (off by {off:.2g} of its spread)")
            return engine
        except torch.OutOfMemoryError:
            raise
        except (UnsupportedArchitecture, RuntimeError, TypeError, AttributeError) as error:
            # The bridge's accessors fail in these ways where a model lacks a part that they take for granted.
            why = first_line(error)
    return why
