"""The steps of a decoder's forward pass, which interventions are put together from.

Everything but the core of attention works position by position, so that a step is a function of whatever rows of the stream it
is given, and an intervention pays for those alone that it can reach. Two kinds of steps: `gpt2` computes GPT-2's family from
plain tensors, `modules` calls a model's own modules. What is written here is common to both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.attention_core import AttentionCore
from circuit_claims.engine.decoder.reading_norm import ReadingNorm
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.run import ROWS, Attention, Run
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.engine.weights import Weights
from circuit_claims.time_spent import spent_on


class Steps(ABC):
    """One model's forward pass, step by step.

    parallel: attention and MLP stand side by side: both read the stream before the layer. heads_add_up: what heads write into
    the stream is the sum of what each would write (no norm comes behind the attention). write_scale: what attention and MLP
    give is multiplied by this before it is added.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    max_memory: int
    normalization: str
    linear_logits: bool
    W_E: Float[Tensor, "d_vocab d_model"]
    W_U: Float[Tensor, "d_model d_vocab"]
    parallel: bool = False
    heads_add_up: bool = True
    write_scale: float = 1.0

    @property
    def group(self) -> int:
        """How many query heads share a key and a value."""
        return self.n_heads // self.n_kv_heads

    # What each kind of steps computes in its own way

    @abstractmethod
    def embed(self, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_model"]:
        """The stream before the first layer."""

    @abstractmethod
    def token_embeddings(self, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What the tokens alone put into the stream, without their positions."""

    @abstractmethod
    def core(self, layer: int) -> AttentionCore:
        """What a layer does between its projections."""

    @abstractmethod
    def qkv(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as projected, each `[*batch, (kv_)head, d_head]`, from the stream before the layer."""

    @abstractmethod
    def keys_and_values(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor]:
        """Keys and values alone."""

    @abstractmethod
    def queries(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch head d_head"]:
        """Queries alone."""

    @abstractmethod
    def head_input(
        self, layer: int, resid: Float[Tensor, "*batch d_model"], head: int, which: str
    ) -> Float[Tensor, "*batch d_head"]:
        """One head's query, key or value (`which`: q, k or v) from the stream before its layer; of a group, the group's."""

    @abstractmethod
    def head_inputs(
        self, layer: int, which: str, resid: Float[Tensor, "head *batch d_model"]
    ) -> Float[Tensor, "*batch head d_head"]:
        """Every head's query, key or value, each from a stream of its own; of a group, the group's projection for each head."""

    @abstractmethod
    def head_weights(self, layer: int, which: str) -> Float[Tensor, "head d_model d_head"] | None:
        """What takes the normed stream to each head's query, key or value, without biases; None where that is no matrix."""

    @abstractmethod
    def reading_norm(self, layer: int) -> ReadingNorm | None:
        """The norm before the projections to queries, keys and values; None where it is of another kind, or there is none."""

    @abstractmethod
    def W_O(self, layer: int) -> Float[Tensor, "head_d_head d_model"]:
        """The linear part of the projection of head outputs."""

    @abstractmethod
    def projected(self, layer: int, z: Float[Tensor, "*batch head d_head"]) -> Float[Tensor, "*batch d_model"]:
        """Head outputs through that projection, with its bias."""

    @abstractmethod
    def written(self, layer: int, projected: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the attention adds to the stream, from `projected`: itself, unless a norm or a factor comes behind it."""

    @abstractmethod
    def mlp(self, layer: int, reads: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream, from the stream that it reads."""

    @abstractmethod
    def logits(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of the whole vocabulary."""

    @abstractmethod
    def answer_logits(
        self, resid: Float[Tensor, "*batch prompt d_model"], answers: Int[Tensor, "prompt answer"]
    ) -> Float[Tensor, "*batch prompt answer"]:
        """Logits of the answer tokens alone."""

    @abstractmethod
    def frozen_norm(
        self, x: Float[Tensor, "*batch d_model"], like: Float[Tensor, "*batch d_model"] | None
    ) -> Float[Tensor, "*batch d_model"]:
        """The final norm of a part of the stream, without its bias, its scale frozen at that of the stream `like`."""

    @abstractmethod
    def weights(self) -> Weights:
        """The weights as GPT-2 lays them out."""

    @abstractmethod
    def check_against(self, bridge: Any, tokens: Int[Tensor, "prompt pos"], tolerance: float) -> None:
        """Raise UnsupportedArchitecture where these steps are not the bridge's own forward pass."""

    # What follows from these

    def needs(self, *sites: str, edited: bool = False) -> None:
        """Raise Unsupported, with the reason, where this architecture has no such activation."""
        if self.parallel and "resid_mid" in sites:
            raise Unsupported("attention and MLP stand side by side in this architecture: there is no stream between them")
        if not self.heads_add_up and "head_out" in sites:
            raise Unsupported("heads' outputs do not simply add up in the stream of this architecture")

    def check_edits(self, edits: Sequence[Edit]) -> None:
        """Refuse edits that mean nothing here.

        Raises Unsupported where there is no such activation, and ValueError where an edit of all keys or values has not one
        entry a group.
        """
        for edit in edits:
            self.needs(edit.site, edited=True)
            if self.group == 1 or edit.site not in ("k", "v"):
                continue
            if edit.head is None and edit.value.shape[-2] != self.n_kv_heads:
                raise ValueError(
                    f"{self.n_heads} heads share {self.n_kv_heads} keys and values: set as many, or name the head that is meant"
                )

    def add_attn_out_(self, layer: int, resid: Tensor, z: Float[Tensor, "*batch head d_head"]) -> None:
        """Add what the attention writes to a contiguous stream `[*batch, d_model]`, in place."""
        resid += self.attn_out(layer, z)

    def add_mlp_out_(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> None:
        """Add what the MLP writes to a contiguous stream that it reads, in place, a block of rows at a time."""
        for rows in resid.view(-1, self.d_model).split(ROWS):
            rows += self.mlp(layer, rows)

    def attn_out(self, layer: int, z: Float[Tensor, "*batch pos head d_head"]) -> Float[Tensor, "*batch pos d_model"]:
        """What the attention layer adds to the stream."""
        return self.written(layer, self.projected(layer, z))

    def mlp_out(self, layer: int, resid_mid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream, from the stream between attention and MLP.

        Raises Unsupported where these stand side by side.
        """
        self.needs("resid_mid")
        return self.mlp(layer, resid_mid)

    def head_out(self, layer: int, z: Float[Tensor, "*batch d_head"], head: int) -> Float[Tensor, "*batch d_model"]:
        """What one head writes into the stream, without the layer's bias.

        Raises Unsupported where what heads write does not add up: a norm comes behind them.
        """
        self.needs("head_out")
        return z @ self.W_O(layer)[head * self.d_head : (head + 1) * self.d_head] * self.write_scale

    def head_outs(self, layer: int, z: Float[Tensor, "*batch head d_head"]) -> Float[Tensor, "head *batch d_model"]:
        """What every head writes into the stream, without the layer's bias.

        Raises Unsupported where what heads write does not add up: a norm comes behind them.
        """
        self.needs("head_out")
        W_O = self.W_O(layer).view(self.n_heads, self.d_head, self.d_model)
        rows = z.reshape(-1, self.n_heads, self.d_head).transpose(0, 1)
        written = torch.bmm(rows, W_O).view(self.n_heads, *z.shape[:-2], self.d_model)
        return written if self.write_scale == 1 else written * self.write_scale

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "prompt pos head d_head"],
        k: Float[Tensor, "prompt pos head d_head"],
        v: Float[Tensor, "prompt pos head d_head"],
    ) -> Float[Tensor, "prompt pos head d_head"]:
        """z from queries, keys and values as projected; every head has a key and a value of its own."""
        core, length = self.core(layer), q.shape[1]
        # Where keys are normed all together, a group's others stand as its first head has them.
        keys = core.turned_own_k(k[..., :: self.group, :], k, 0, length)
        return core.attend(core.turned_q(q, 0, length), keys, v)

    def direct_logits(self, directions: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """What directions in the final stream add to the logits: the norm's gain counts, and its scale is 1."""
        return self.frozen_norm(directions, None) @ self.W_U

    def keys_and_values_of(self, run: Run, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a run as projected, as it has kept them or from its residual stream."""
        if run.kept is None:
            return self.keys_and_values(layer, run.resid[layer])
        k, v = run.kept[layer]
        return k, v

    def head_outputs_at(
        self, run: Run, layer: int, positions: Int[Tensor, "prompt k"]
    ) -> Float[Tensor, "prompt k head d_head"]:
        """z of one layer of a run at some positions, whose queries alone are computed."""
        core, length = self.core(layer), run.tokens.shape[1]
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        k, v = self.keys_and_values_of(run, layer)
        q = core.turned_q(self.queries(layer, run.resid[layer][rows, positions]), positions, length)
        return core.attend_at(q, core.turned_k(k, 0, length), v, positions)

    def attention(self, layer: int, resid_pre: Float[Tensor, "prompt pos d_model"]) -> Attention:
        """The whole inside of one attention layer at all positions."""
        q, k, v = self.qkv(layer, resid_pre)
        return self._inside(layer, q, k, self.core(layer).turned_k(k, 0, resid_pre.shape[1]), v)

    def ungrouped_attention(self, layer: int, resid_pre: Float[Tensor, "prompt pos d_model"]) -> Attention:
        """The same, with a key and a value for every head: those of a group are equal, and each can be looked at alone."""
        core, length = self.core(layer), resid_pre.shape[1]
        q, shared, v = self.qkv(layer, resid_pre)
        own = core.of_each_head(shared)
        return self._inside(layer, q, own, core.turned_own_k(shared, own, 0, length), core.of_each_head(v))

    def _inside(self, layer: int, q: Tensor, k: Tensor, turned_k: Tensor, v: Tensor) -> Attention:
        """An attention layer from its queries, keys and values as projected, and its keys as the scores take them."""
        core, length = self.core(layer), q.shape[1]
        pattern = core.pattern(core.turned_q(q, 0, length), turned_k)
        z = core.mixed(pattern, v)
        return Attention({"q": q, "k": k, "v": v, "pattern": pattern, "z": z, "out": self.attn_out(layer, z)})

    @spent_on("forward passes")
    @torch.no_grad()
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
            kept = self.W_E.new_empty(self.n_layers, 2, *tokens.shape, self.n_kv_heads, self.d_head)
        stream = self.W_E.new_empty(self.n_layers + 1, *tokens.shape, self.d_model)
        stream[0] = self.embed(tokens) if embedded is None else embedded
        for layer in range(self.n_layers):
            stream[layer + 1] = stream[layer]

            def keeping(some: slice, k: Tensor, v: Tensor, layer: int = layer) -> None:
                if kept is not None:
                    kept[layer, 0, some], kept[layer, 1, some] = k, v

            self.through_layer_(layer, stream[layer + 1], keeping)
        return Run(tokens, stream, kept)

    def through_layer_(
        self,
        layer: int,
        stream: Float[Tensor, "prompt pos d_model"],
        keeping: Callable[[slice, Tensor, Tensor], None] | None = None,
    ) -> None:
        """Take a contiguous stream through one layer, in place, a few prompts at a time: what is inside a layer stays small.

        keeping: is given the keys and values of each few.
        """
        core, length = self.core(layer), stream.shape[1]
        step = max(1, ROWS // length)
        for first in range(0, len(stream), step):
            some = stream[first : first + step]
            q, k, v = self.qkv(layer, some)
            if keeping is not None:
                keeping(slice(first, first + step), k, v)
            z = core.attend(core.turned_q(q, 0, length), core.turned_k(k, 0, length), v)
            beside = self.mlp(layer, some) if self.parallel else None
            self.add_attn_out_(layer, some, z)
            if beside is not None:
                some += beside
        if not self.parallel:
            self.add_mlp_out_(layer, stream)
