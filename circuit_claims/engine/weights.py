"""A model's weights as GPT-2 lays them out, for what is read off weights alone."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

#: A layer norm's gain and bias.
Norm = tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"]]


@dataclass(frozen=True)
class LayerWeights:
    """One layer's weights; `W_qkv` and `b_qkv` hold queries, keys and values of all heads side by side."""

    ln1: Norm
    W_qkv: Float[Tensor, "d_model three_n_head_d_head"]
    b_qkv: Float[Tensor, " three_n_head_d_head"]
    W_O: Float[Tensor, "n_head_d_head d_model"]
    b_O: Float[Tensor, " d_model"]
    ln2: Norm
    W_in: Float[Tensor, "d_model d_mlp"]
    b_in: Float[Tensor, " d_mlp"]
    W_out: Float[Tensor, "d_mlp d_model"]
    b_out: Float[Tensor, " d_model"]


@dataclass(frozen=True)
class Weights:
    """All weights but those of positions, in the mode in which the model was loaded (raw or processed).

    eps: of the layer norms; activation: of the MLPs.
    """

    n_heads: int
    d_head: int
    W_E: Float[Tensor, "d_vocab d_model"]
    layers: tuple[LayerWeights, ...]
    ln_final: Norm
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]
    eps: float
    activation: Callable[[Tensor], Tensor]

    @property
    def n_layers(self) -> int:
        """The number of layers."""
        return len(self.layers)
