"""Rotary positions that a GGUF file scales: transformers reads their base alone, and passes over the rest."""

from typing import Any

import numpy as np

from circuit_claims.models.gguf_header import Header
from circuit_claims.models.subject_error import SubjectError

#: Llama 3's: by how much each frequency is divided.
DIVISORS = "rope_freqs.weight"
ROPE_TENSORS = (DIVISORS,)
#: What all of Llama 3.1, 3.2 and 3.3 have; the factor is 8 or 32.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
UNKNOWN = "name the folder that the file was converted from"


def scale_positions(config: Any, header: Header) -> None:
    """Take over into a configuration how the file scales rotary positions.

    Raises SubjectError where it scales them in a way that is not read here.
    """
    if scaling := _scaling(header, config):
        parameters = config.rope_parameters
        # Where layers differ, those of a sliding window are not scaled.
        if "full_attention" in parameters:
            scaling = {"full_attention": {**parameters["full_attention"], **scaling}}
        config.rope_parameters = {**parameters, **scaling}


def _scaling(header: Header, config: Any) -> dict[str, Any]:
    prefix = f"{header.architecture}.rope.scaling"
    kind, factor = header.get(f"{prefix}.type", "none"), header.get(f"{prefix}.factor", 1.0)
    divisors = next((tensor for tensor in header.tensors if tensor.name == DIVISORS), None)
    if divisors is not None and "rope_theta" in config.rope_parameters:
        return _llama3(header, config, np.asarray(divisors.data, dtype=np.float64))
    if (kind == "none" or factor == 1.0) and divisors is None:
        return {}
    if kind == "linear" and divisors is None:
        return {"rope_type": "linear", "factor": float(factor)}
    raise SubjectError(
        f"{header.file} scales its rotary positions by {kind!r}, which transformers does not read of GGUF: {UNKNOWN}"
    )


def _llama3(header: Header, config: Any, divisors: np.ndarray) -> dict[str, Any]:
    """Llama 3's scaling, of which the file has what came of it: found by its largest divisor, and compared with all."""
    found = {"rope_type": "llama3", "factor": float(divisors.max()), **LLAMA3}
    base = config.rope_parameters["rope_theta"]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    lengths = 2 * np.pi * base ** (np.arange(0, width, 2) / width)  # wavelengths, in positions
    share = (found["original_max_position_embeddings"] / lengths - 1.0) / (4.0 - 1.0)
    share = share.clip(0.0, 1.0)  # 1 for short waves, which stay; 0 for long ones, which are divided
    ours = 1.0 / ((1 - share) / found["factor"] + share)
    if divisors.shape != ours.shape or not np.allclose(divisors, ours, rtol=1e-3):
        raise SubjectError(
            f"{header.file} divides the frequencies of its rotary positions as no Llama 3 does ({DIVISORS}): {UNKNOWN}"
        )
    return found
