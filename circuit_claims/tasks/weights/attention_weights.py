"""The attention weights of a GPT-2, read from safetensors by themselves: for what can be said without a forward pass.

The folder need not hold a whole model: every attention layer with its layer norm, and the position embeddings, are enough.
Layer norms are folded into the weights that read from the stream, and what is written to it is centred, as TransformerLens does
(`fold_layer_norm`, `center_writing_weights`): a layer norm takes the mean out again, so that only the rest is ever read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from circuit_claims.models.folder import ModelFolder
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.time_spent import spent_on


@dataclass(frozen=True)
class AttentionWeights:
    """All heads of all layers, in double precision.

    W_Q, W_K, W_V read from the stream, after its layer norm has taken out mean and size; W_O and W_pos write to it.
    scale: what each layer divides its attention scores by. eps: of the layer norms.
    """

    W_Q: Float[Tensor, "layer head d_model d_head"]
    W_K: Float[Tensor, "layer head d_model d_head"]
    W_V: Float[Tensor, "layer head d_model d_head"]
    b_Q: Float[Tensor, "layer head d_head"]
    b_K: Float[Tensor, "layer head d_head"]
    b_V: Float[Tensor, "layer head d_head"]
    W_O: Float[Tensor, "layer head d_head d_model"]
    W_pos: Float[Tensor, "pos d_model"]
    scale: Float[Tensor, " layer"]
    eps: float

    @property
    def n_layers(self) -> int:
        """The number of layers."""
        return self.W_Q.shape[0]

    @property
    def n_heads(self) -> int:
        """The number of heads in a layer."""
        return self.W_Q.shape[1]


@dataclass(frozen=True)
class _Sizes:
    """What config.json says of the shape."""

    layers: int
    heads: int
    width: int
    positions: int

    @classmethod
    def read(cls, folder: ModelFolder) -> "_Sizes":
        given = [folder.config.get(key) for key in ("n_layer", "n_head", "n_embd", "n_positions")]
        numbers = [number for number in given if isinstance(number, int) and number > 0]
        if len(numbers) < len(given) or numbers[2] % numbers[1]:
            raise SubjectError(
                f"config.json in {folder.path} gives no shape (n_layer, n_head, n_embd, n_positions): restore the model's own"
            )
        return cls(*numbers)

    def shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The tensors that a layer needs, under Hugging Face's names."""
        width = self.width
        return {
            f"h.{layer}.ln_1.weight": (width,),
            f"h.{layer}.ln_1.bias": (width,),
            f"h.{layer}.attn.c_attn.weight": (width, 3 * width),
            f"h.{layer}.attn.c_attn.bias": (3 * width,),
            f"h.{layer}.attn.c_proj.weight": (width, width),
        }


@spent_on("reading attention weights")
def read_attention_weights(folder: ModelFolder, *, processed: bool = True) -> AttentionWeights:
    """The attention weights of the GPT-2 in a folder, whole or attention alone, in whatever precision they are kept.

    processed: with layer norm folded and writing weights centred; else as released, layer norm's gain and bias left out.

    Raises SubjectError, with one sentence, where the model is no GPT-2, or where tensors are missing, of another shape than
    config.json says, or hold values that are no numbers.
    """
    if folder.config.get("model_type") != "gpt2":
        raise SubjectError(
            f"{folder.name} is a {folder.config.get('model_type')}, and its weights are laid out otherwise than GPT-2's: "
            "name a model of GPT-2's architecture"
        )
    sizes = _Sizes.read(folder)
    wanted = {"wpe.weight": (sizes.positions, sizes.width)}
    for layer in range(sizes.layers):
        wanted |= sizes.shapes(layer)
    found = _tensors(folder, wanted)
    layers = [_layer(found, layer, sizes, processed) for layer in range(sizes.layers)]
    position = found["wpe.weight"]
    return AttentionWeights(
        **{name: torch.stack([layer[name] for layer in layers]) for name in layers[0]},
        W_pos=position - position.mean(-1, keepdim=True) if processed else position,
        scale=_scale(folder.config, sizes),
        eps=float(folder.config.get("layer_norm_epsilon", 1e-5)),
    )


def _tensors(folder: ModelFolder, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Float[Tensor, "..."]]:
    """The tensors of these names and shapes, in double precision; a file may call them `h.0...` or `transformer.h.0...`."""
    places: dict[str, tuple[Path, str]] = {}
    for path in folder.weights:
        with safe_open(path, framework="pt") as file:
            places |= {key.removeprefix("transformer."): (path, key) for key in file.keys()}  # noqa: SIM118
    missing = [name for name in wanted if name not in places]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SubjectError(
            f"the weights in {folder.path} lack {missing[0]}{more}: name a folder with all attention layers, their layer norms "
            "and the position embeddings"
        )
    found = {}
    for path in folder.weights:
        with safe_open(path, framework="pt") as file:
            for name in wanted:
                if places[name][0] == path:
                    found[name] = file.get_tensor(places[name][1])
    for name, shape in wanted.items():
        if tuple(found[name].shape) != shape:
            raise SubjectError(
                f"{name} in {folder.path} is {' × '.join(map(str, found[name].shape))}, and config.json makes it "
                f"{' × '.join(map(str, shape))}: restore the two from one model"
            )
        found[name] = found[name].double()
        if not found[name].isfinite().all():
            raise SubjectError(f"{name} in {folder.path} holds values that are no numbers: copy or download the weights again")
    return found


def _layer(found: Mapping[str, Tensor], layer: int, sizes: _Sizes, processed: bool) -> dict[str, Float[Tensor, "..."]]:
    """One layer's weights by head."""
    attention = f"h.{layer}.attn"
    gain, bias = found[f"h.{layer}.ln_1.weight"], found[f"h.{layer}.ln_1.bias"]
    heads: dict[str, Tensor] = {}
    joined_weights = found[f"{attention}.c_attn.weight"].split(sizes.width, dim=1)
    joined_biases = found[f"{attention}.c_attn.bias"].split(sizes.width)
    for name, weight, offset in zip("QKV", joined_weights, joined_biases, strict=True):
        if processed:
            offset = offset + bias @ weight
            weight = gain[:, None] * weight
            # The stream comes in without its mean, so that the part of a weight that reads the mean never matters.
            weight = weight - weight.mean(0)
        heads[f"W_{name}"] = weight.unflatten(1, (sizes.heads, -1)).movedim(1, 0)
        heads[f"b_{name}"] = offset.unflatten(0, (sizes.heads, -1))
    out = found[f"{attention}.c_proj.weight"].unflatten(0, (sizes.heads, -1))
    heads["W_O"] = out - out.mean(-1, keepdim=True) if processed else out
    return heads


def _scale(config: Mapping[str, Any], sizes: _Sizes) -> Float[Tensor, " layer"]:
    """Hugging Face's three ways to scale scores: by the root of a head's size, by the layer's number, or not at all."""
    scale = torch.ones(sizes.layers, dtype=torch.float64)
    if config.get("scale_attn_weights", True):
        scale = scale * (sizes.width // sizes.heads) ** 0.5
    if config.get("scale_attn_by_inverse_layer_idx", False):
        scale = scale * torch.arange(1, sizes.layers + 1)
    return scale
