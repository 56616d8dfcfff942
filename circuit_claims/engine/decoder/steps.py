"""A GPT-2-shaped transformer as plain tensors, so that a forward pass can start and stop anywhere.

`TransformerBridge` runs whole models at whole sequences (`start_at_layer` is not supported there), so an intervention pays for
everything that it cannot reach. Here the same weights, as the bridge holds them (raw or processed), are applied layer by layer
and only at the positions asked for. The bridge stays the reference: `check_against` compares the two on loading.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from circuit_claims import forward_passes
from circuit_claims.engine.run import MEMORY_CAP, ROWS, Attention, Run
from circuit_claims.engine.unsupported import UnsupportedArchitecture
from circuit_claims.engine.weights import LayerWeights, Norm, Weights
from circuit_claims.time_spent import spent_on

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}


class Steps:
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

    def needs(self, *sites: str, edited: bool = False) -> None:
        """Nothing is missing: every activation of this architecture can be read and edited."""

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

    def head_out(self, layer: int, z: Float[Tensor, "*batch d_head"], head: int) -> Float[Tensor, "*batch d_model"]:
        """What one head writes into the stream, without the layer's bias."""
        return z @ self.blocks[layer].W_O[head * self.d_head : (head + 1) * self.d_head]

    def pattern(
        self, q: Float[Tensor, "*batch query head d_head"], k: Float[Tensor, "*batch key head d_head"], first_query: int = 0
    ) -> Float[Tensor, "*batch head query key"]:
        """Attention probabilities; `first_query` is the position of the first query among the keys."""
        scores = q.transpose(-2, -3) @ k.transpose(-2, -3).transpose(-1, -2) / self.d_head**0.5
        return scores.masked_fill(self.future(q.shape[-3], k.shape[-3], first_query), -torch.inf).softmax(-1)

    def future(self, queries: int, keys: int, first_query: int) -> Bool[Tensor, "query key"]:
        """Which keys lie after a query, and are not attended to."""
        device = self.W_E.device
        return torch.arange(keys, device=device)[None] > (torch.arange(queries, device=device) + first_query)[:, None]

    def attn_out(self, layer: int, z: Float[Tensor, "*batch pos head d_head"]) -> Float[Tensor, "*batch pos d_model"]:
        """What the attention layer adds to the stream."""
        block = self.blocks[layer]
        return torch.addmm(block.b_O, z.reshape(-1, block.W_O.shape[0]), block.W_O).view(*z.shape[:-2], self.d_model)

    def mlp_out(self, layer: int, resid_mid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream."""
        block = self.blocks[layer]
        hidden = torch.addmm(block.b_in, self._normed(resid_mid, block.ln2).reshape(-1, self.d_model), block.W_in)
        return torch.addmm(block.b_out, self.activation(hidden), block.W_out).view(resid_mid.shape)

    def keys_and_values_of(self, run: Run, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a run, as it has kept them or from its residual stream."""
        if run.kept is None:
            return self.keys_and_values(layer, run.resid[layer])
        k, v = run.kept[layer]
        return k, v

    def head_outputs_at(
        self, run: Run, layer: int, positions: Int[Tensor, "prompt k"]
    ) -> Float[Tensor, "prompt k head d_head"]:
        """z of one layer of a run at some positions, whose queries alone are computed."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        k, v = (part.transpose(1, 2) for part in self.keys_and_values_of(run, layer))
        q = self.queries(layer, run.resid[layer][rows, positions]).transpose(1, 2)
        seen = torch.arange(run.tokens.shape[1], device=positions.device) <= positions[:, None, :, None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)

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

    def attention(self, layer: int, resid_pre: Float[Tensor, "prompt pos d_model"]) -> Attention:
        """The whole inside of one attention layer at all positions."""
        q, k, v = self.qkv(layer, resid_pre)
        pattern = self.pattern(q, k)
        z = (pattern @ v.transpose(-2, -3)).transpose(-2, -3)
        return Attention({"q": q, "k": k, "v": v, "pattern": pattern, "z": z, "out": self.attn_out(layer, z)})

    @spent_on("forward passes")
    def run(
        self,
        tokens: Int[Tensor, "prompt pos"],
        *,
        keep: bool = False,
        embedded: Float[Tensor, "prompt pos d_model"] | None = None,
    ) -> Run:
        """A forward pass over prompts of one length.

        keep: hold on to keys and values. embedded: the stream to begin with, in place of the tokens' own embeddings.
        """
        forward_passes.count(len(tokens))
        kept = None
        if keep:
            kept = self.W_E.new_empty(self.n_layers, 2, *tokens.shape, self.n_heads, self.d_head)
        stream = self.W_E.new_empty(self.n_layers + 1, *tokens.shape, self.d_model)
        stream[0] = self.embed(tokens) if embedded is None else embedded
        for layer in range(self.n_layers):
            stream[layer + 1] = stream[layer]
            step = max(1, ROWS // tokens.shape[1])
            for first in range(0, len(tokens), step):
                some = slice(first, first + step)
                q, k, v = self.qkv(layer, stream[layer, some])
                if kept is not None:
                    kept[layer, 0, some], kept[layer, 1, some] = k, v
                q, k, v = (part.transpose(1, 2) for part in (q, k, v))
                z = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
                self.add_attn_out_(layer, stream[layer + 1, some], z)
            self.add_mlp_out_(layer, stream[layer + 1])
        return Run(tokens, stream, kept)

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

    def direct_logits(self, directions: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """What directions in the final stream add to the logits: the norm's gain counts, and its scale is 1."""
        return self.frozen_norm(directions, None) @ self.W_U

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
