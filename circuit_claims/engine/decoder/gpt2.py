"""GPT-2's family as plain tensors.

`TransformerBridge` runs whole models at whole sequences (`start_at_layer` is not supported there), so an intervention pays for
everything that it cannot reach. Here the same weights, as the bridge holds them (raw or processed), are applied layer by layer
and only at the positions asked for. The bridge stays the reference: `check_against` compares the two on loading.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.engine.decoder.attention_core import AttentionCore
from circuit_claims.engine.decoder.reading_norm import ReadingNorm
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.run import MEMORY_CAP, ROWS
from circuit_claims.engine.unsupported import UnsupportedArchitecture
from circuit_claims.engine.weights import LayerWeights, Norm, Weights

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}


class Gpt2Steps(Steps):
    """The weights of one subject and the steps of its forward pass."""

    linear_logits = True

    def __init__(self, bridge: Any, max_memory: int = MEMORY_CAP) -> None:
        """Take the weights out of a booted bridge, in the mode it is in.

        max_memory: bytes that the activations of interventions under way may occupy; larger batches are split.

        Raises UnsupportedArchitecture where the model is not pre-norm with layer norm, learned positions, one key and value
        per query head and an MLP without gate: GPT-2's shape.
        """
        cfg = bridge.cfg
        reasons = [
            f"normalisation {cfg.normalization_type}" if cfg.normalization_type not in ("LN", "LNPre") else "",
            f"activation {cfg.act_fn}" if cfg.act_fn not in ACTIVATIONS else "",
            "gated MLP" if getattr(cfg, "gated_mlp", False) else "",
            "parallel attention and MLP" if getattr(cfg, "parallel_attn_mlp", False) else "",
            "no learned position embedding" if not hasattr(bridge, "pos_embed") else "",
            "grouped keys and values" if getattr(cfg, "n_key_value_heads", None) not in (None, cfg.n_heads) else "",
        ]
        if any(reasons):
            raise UnsupportedArchitecture(", ".join(filter(None, reasons)))
        self.n_layers, self.n_heads, self.d_head, self.d_model = cfg.n_layers, cfg.n_heads, cfg.d_head, cfg.d_model
        self.n_kv_heads, self.d_vocab, self.n_ctx = cfg.n_heads, cfg.d_vocab, cfg.n_ctx
        self.normalization: str = cfg.normalization_type
        self.eps = float(cfg.eps)
        self.max_memory = max_memory
        self.activation = ACTIVATIONS[cfg.act_fn]
        self.W_E = bridge.W_E.detach()
        self.W_pos = bridge.pos_embed.weight.detach()
        self.W_U = bridge.W_U.detach()
        self.b_U = bridge.b_U.detach() if bridge.b_U is not None else self.W_U.new_zeros(self.W_U.shape[1])
        self.ln_final = _norm(bridge.ln_final, self.W_E)
        attention = {name: getattr(bridge, name).detach() for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")}
        self.blocks = tuple(
            self._block(bridge.blocks[layer], {name: stacked[layer] for name, stacked in attention.items()})
            for layer in range(self.n_layers)
        )
        self.d_mlp = self.blocks[0].W_in.shape[1]
        self._core = AttentionCore(scale=self.d_head**-0.5)

    def _block(self, block: Any, attention: dict[str, Tensor]) -> LayerWeights:
        """One layer: the MLP's weights are the bridge's own, and attention's are copies, put side by side.

        The bridge stacks the weights of all layers anew whenever it is asked for them, so that a view of one layer's would keep
        all of them alive.
        """

        def joined(weight: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "d_model head_d_head"]:
            return weight.permute(1, 0, 2).reshape(self.d_model, -1)

        return LayerWeights(
            ln1=_norm(block.ln1, self.W_E),
            W_qkv=torch.cat([joined(attention[f"W_{name}"]) for name in "QKV"], dim=1),
            b_qkv=torch.cat([attention[f"b_{name}"].reshape(-1) for name in "QKV"]),
            W_O=attention["W_O"].reshape(-1, self.d_model).clone(),
            b_O=block.attn.b_O.detach(),
            ln2=_norm(block.ln2, self.W_E),
            W_in=block.mlp.W_in.detach().contiguous(),
            b_in=block.mlp.b_in.detach(),
            W_out=block.mlp.W_out.detach().contiguous(),
            b_out=block.mlp.b_out.detach(),
        )

    def weights(self) -> Weights:
        """The weights, which are the engine's own: whoever changes them changes the model."""
        return Weights(
            n_heads=self.n_heads,
            d_head=self.d_head,
            W_E=self.W_E,
            layers=self.blocks,
            ln_final=self.ln_final,
            W_U=self.W_U,
            b_U=self.b_U,
            eps=self.eps,
            activation=self.activation,
        )

    def core(self, layer: int) -> AttentionCore:
        """Dot products by the root of the head's width, in every layer."""
        return self._core

    def embed(self, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_model"]:
        """Token and position embeddings, summed."""
        return self.W_E[tokens] + self.W_pos[: tokens.shape[1]]

    def token_embeddings(self, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What the tokens alone put into the stream, without their positions."""
        return self.W_E[tokens]

    def qkv(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of one layer, each `[*batch, head, d_head]`, from the stream before it."""
        block = self.blocks[layer]
        joined = torch.addmm(block.b_qkv, self._normed(resid, block.ln1).reshape(-1, self.d_model), block.W_qkv)
        q, k, v = joined.view(*resid.shape[:-1], 3, self.n_heads, self.d_head).unbind(-3)
        return q, k, v

    def keys_and_values(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each `[*batch, head, d_head]`: two thirds of `qkv` where no query is asked for."""
        block, width = self.blocks[layer], self.n_heads * self.d_head
        joined = torch.addmm(
            block.b_qkv[width:], self._normed(resid, block.ln1).reshape(-1, self.d_model), block.W_qkv[:, width:]
        )
        k, v = joined.view(*resid.shape[:-1], 2, self.n_heads, self.d_head).unbind(-3)
        return k, v

    def queries(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch head d_head"]:
        """Queries of one layer."""
        block, width = self.blocks[layer], self.n_heads * self.d_head
        flat = self._normed(resid, block.ln1).reshape(-1, self.d_model)
        return torch.addmm(block.b_qkv[:width], flat, block.W_qkv[:, :width]).view(*resid.shape[:-1], self.n_heads, self.d_head)

    def head_input(
        self, layer: int, resid: Float[Tensor, "*batch d_model"], head: int, which: str
    ) -> Float[Tensor, "*batch d_head"]:
        """One head's query, key or value (`which`: q, k or v) from the stream before its layer."""
        block = self.blocks[layer]
        first = ("qkv".index(which) * self.n_heads + head) * self.d_head
        columns = slice(first, first + self.d_head)
        return self._normed(resid, block.ln1) @ block.W_qkv[:, columns] + block.b_qkv[columns]

    def head_inputs(
        self, layer: int, which: str, resid: Float[Tensor, "head *batch d_model"]
    ) -> Float[Tensor, "*batch head d_head"]:
        """Every head's query, key or value, each from a stream of its own."""
        first = "qkv".index(which) * self.n_heads * self.d_head
        bias = self.blocks[layer].b_qkv[first : first + self.n_heads * self.d_head].view(self.n_heads, 1, self.d_head)
        rows = self._normed(resid, self.blocks[layer].ln1).reshape(self.n_heads, -1, self.d_model)
        found = torch.baddbmm(bias, rows, self.head_weights(layer, which))
        return found.transpose(0, 1).reshape(*resid.shape[1:-1], self.n_heads, self.d_head)

    def head_weights(self, layer: int, which: str) -> Float[Tensor, "head d_model d_head"]:
        """What takes the normed stream to each head's query, key or value, without biases."""
        first = "qkv".index(which) * self.n_heads * self.d_head
        columns = self.blocks[layer].W_qkv[:, first : first + self.n_heads * self.d_head]
        return columns.view(self.d_model, self.n_heads, self.d_head).transpose(0, 1)

    def reading_norm(self, layer: int) -> ReadingNorm:
        """The layer norm before the projections to queries, keys and values."""
        return ReadingNorm(self.blocks[layer].ln1[0], self.eps, centred=True)

    def W_O(self, layer: int) -> Float[Tensor, "head_d_head d_model"]:
        """The projection of head outputs, without its bias."""
        return self.blocks[layer].W_O

    def projected(self, layer: int, z: Float[Tensor, "*batch head d_head"]) -> Float[Tensor, "*batch d_model"]:
        """Head outputs through their projection."""
        block = self.blocks[layer]
        return torch.addmm(block.b_O, z.reshape(-1, block.W_O.shape[0]), block.W_O).view(*z.shape[:-2], self.d_model)

    def written(self, layer: int, projected: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The same: nothing comes behind the attention."""
        return projected

    def mlp(self, layer: int, reads: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream."""
        block = self.blocks[layer]
        hidden = torch.addmm(block.b_in, self._normed(reads, block.ln2).reshape(-1, self.d_model), block.W_in)
        return torch.addmm(block.b_out, self.activation(hidden), block.W_out).view(reads.shape)

    def add_attn_out_(self, layer: int, resid: Tensor, z: Float[Tensor, "*batch head d_head"]) -> None:
        """Add what the attention layer writes to a contiguous stream `[*batch, d_model]`, in place."""
        block = self.blocks[layer]
        rows = resid.view(-1, self.d_model)
        torch.addmm(rows, z.reshape(-1, block.W_O.shape[0]), block.W_O, out=rows).add_(block.b_O)

    def add_mlp_out_(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> None:
        """Add what the MLP writes to a contiguous stream, in place, a block of rows at a time: its hidden layer is wide."""
        block = self.blocks[layer]
        for rows in resid.view(-1, self.d_model).split(ROWS):
            hidden = self.activation(torch.addmm(block.b_in, self._normed(rows, block.ln2), block.W_in))
            torch.addmm(rows, hidden, block.W_out, out=rows).add_(block.b_out)

    def logits(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of the whole vocabulary."""
        return self._normed(resid, self.ln_final) @ self.W_U + self.b_U

    def answer_logits(
        self, resid: Float[Tensor, "*batch prompt d_model"], answers: Int[Tensor, "prompt answer"]
    ) -> Float[Tensor, "*batch prompt answer"]:
        """Logits of the answer tokens alone: two columns of the unembedding instead of all of them."""
        columns = self.W_U.T[answers]  # [prompt, answer, d_model]
        return torch.einsum("...pd,pad->...pa", self._normed(resid, self.ln_final), columns) + self.b_U[answers]

    def frozen_norm(
        self, x: Float[Tensor, "*batch d_model"], like: Float[Tensor, "*batch d_model"] | None
    ) -> Float[Tensor, "*batch d_model"]:
        """The final layer norm of a part of the stream, without its bias, its scale frozen at that of the stream `like`.

        With None in its place there is no division by any scale: the part is centred and has its gain, and that is all.
        """
        centred = (x - x.mean(-1, keepdim=True)) * self.ln_final[0]
        return centred if like is None else centred / (like.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt()

    def _normed(self, x: Tensor, norm: Norm) -> Tensor:
        return F.layer_norm(x, (self.d_model,), norm[0], norm[1], self.eps)

    def check_against(self, bridge: Any, tokens: Int[Tensor, "prompt pos"], tolerance: float) -> None:
        """Compare with the bridge's own forward pass.

        Raises UnsupportedArchitecture where the log-probabilities differ by more than `tolerance`: then the model does
        something that these steps do not know, and no number of theirs could be trusted.
        """
        ours = self.logits(self.run(tokens).resid[-1][:, -1]).float().log_softmax(-1)
        theirs = bridge(tokens, prepend_bos=False)[:, -1].float().log_softmax(-1)
        difference = float((ours - theirs).abs().max())
        if not difference <= tolerance:
            raise UnsupportedArchitecture(f"its forward pass is not GPT-2's (log-probabilities differ by {difference:.2g})")


def _norm(module: Any, like: Tensor) -> Norm:
    """A layer norm's weight and bias; one that processing has folded away scales by 1."""
    width = like.shape[1]
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    return (
        weight.detach() if weight is not None else like.new_ones(width),
        bias.detach() if bias is not None else like.new_zeros(width),
    )
