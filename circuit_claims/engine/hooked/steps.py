"""Decoders of any architecture: their forward pass and its steps, computed by their own code through a bridge's hooks.

No step is written anew: rotary positions, grouped keys and values, gated MLPs, norms of queries and keys, attention and MLP in
parallel are what the model makes of them. What has no meaning in an architecture, or what its bridge cannot do, is found out on
loading (`circuit_claims.engine.hooked.self_check`), and ends a claim as *untested* with the reason.

Queries and keys are those of TransformerLens's `hook_q` and `hook_k`: as projected, before any norm of them and before the
rotation. Where keys and values are shared by groups of query heads, `Attention.k` and `.v` have one entry a group, as there; a
head's key or value is its group's.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.hooked.passes import Passes
from circuit_claims.engine.run import MEMORY_CAP, Attention, Run
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.engine.weights import Weights
from circuit_claims.time_spent import spent_on

#: Parts of `Attention`, and the sites whose activations they are.
PARTS = {"q": "q", "k": "k", "v": "v", "pattern": "pattern", "z": "z", "out": "attn_out"}
#: What the logits of one chunk of streams may occupy, in bytes.
LOGITS_CAP = 250_000_000


class HookedSteps:
    """One subject's forward pass and its steps, through the bridge's own modules and hooks.

    not_readable: sites whose activations cannot be had, with the reason; not_editable: sites at which an edit would not be what
    it says, with the reason. `HookedDecoder.check_against` fills both.
    """

    linear_logits = False

    def __init__(self, bridge: Any, max_memory: int = MEMORY_CAP) -> None:
        """Look at a booted bridge, in the mode it is in.

        max_memory: bytes that the activations of interventions under way may occupy; larger batches are split.

        Raises UnsupportedArchitecture where it is not one stack of blocks, or its layers cannot be left out one by one.
        """
        cfg = bridge.cfg
        self.passes = Passes(bridge)
        self.bridge, self.max_memory = bridge, max_memory
        self.n_layers, self.n_heads, self.d_model = self.passes.n_layers, cfg.n_heads, cfg.d_model
        self.d_head = cfg.d_head
        self.d_mlp = getattr(cfg, "d_mlp", None) or 4 * cfg.d_model
        self.n_kv_heads = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
        self.d_vocab, self.n_ctx = cfg.d_vocab, cfg.n_ctx
        self.normalization: str = cfg.normalization_type
        self.W_E, self.W_U = bridge.W_E.detach(), bridge.W_U.detach()
        self.parallel = bool(getattr(cfg, "parallel_attn_mlp", False))
        self.not_readable: dict[str, str] = {}
        self.not_editable: dict[str, str] = {}

    @property
    def group(self) -> int:
        """How many query heads share a key and a value."""
        return self.n_heads // self.n_kv_heads

    def needs(self, *sites: str, edited: bool = False) -> None:
        """Raise Unsupported, with the reason, where one of these activations cannot be read (or edited)."""
        for site in sites:
            reason = self.not_readable.get(site) or (self.not_editable.get(site) if edited else None)
            if reason:
                raise Unsupported(reason)

    @spent_on("forward passes")
    def run(
        self,
        tokens: Int[Tensor, "prompt pos"],
        *,
        keep: bool = False,
        embedded: Float[Tensor, "prompt pos d_model"] | None = None,
    ) -> Run:
        """A forward pass over prompts of one length.

        keep: is for the fast path; keys and values are never kept here, since no step asks for them. embedded: the stream to
        begin with, in place of the tokens' own embeddings.
        """
        forward_passes.count(len(tokens))
        resid = self.W_E.new_empty(self.n_layers + 1, *tokens.shape, self.d_model)

        def remembering(index: int):
            def hook(stream: Tensor) -> None:
                resid[index] = stream

            return hook

        hooks = {(layer, "resid_pre"): remembering(layer) for layer in range(self.n_layers)}
        self.passes(tokens, hooks={**hooks, (self.n_layers - 1, "resid_post"): remembering(self.n_layers)}, stream=embedded)
        return Run(tokens, resid)

    def token_embeddings(self, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What the tokens alone put into the stream, without their positions.

        Raises Unsupported where the stream does not begin with the embeddings as they are (some models scale them).
        """
        stream, rows = self.run(tokens[:, None]).resid[0][:, 0], self.W_E[tokens]
        # Positions, where they are learned, are the same for all.
        if not torch.allclose(stream - stream[:1], rows - rows[:1], atol=1e-4 * float(rows.abs().max())):
            raise Unsupported("this model scales its embeddings, so noise in units of their spread is not what was published")
        return rows

    def attention(self, layer: int, resid_pre: Float[Tensor, "prompt pos d_model"]) -> Attention:
        """The whole inside of one attention layer at all positions; reading a part that cannot be had raises Unsupported."""
        places = {part: (layer, site) for part, site in PARTS.items() if site not in self.not_readable}
        tokens = self.some_tokens(resid_pre)
        found = self.passes.read(tokens, list(places.values()), start=layer, stop=layer + 1, stream=resid_pre)
        missing = {part: self.not_readable[site] for part, site in PARTS.items() if site in self.not_readable}
        return Attention({part: found[place] for part, place in places.items()}, missing)

    def weights(self) -> Weights:
        """Raises Unsupported: each architecture lays its weights out in its own way."""
        raise Unsupported(
            "the weights of this architecture are not laid out as GPT-2's: take a subject of GPT-2's architecture"
        )

    def head_outputs_at(
        self, run: Run, layer: int, positions: Int[Tensor, "prompt k"]
    ) -> Float[Tensor, "prompt k head d_head"]:
        """z of one layer of a run at some positions."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        return self.attention(layer, run.resid[layer]).z[rows, positions]

    def mlp_out(self, layer: int, resid_mid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream.

        Raises Unsupported where attention and MLP stand side by side, since there is no stream between them then.
        """
        self.needs("resid_mid", "mlp_out", "attn_out", edited=True)
        stream = resid_mid.reshape(-1, 1, self.d_model)
        # With nothing written by the attention, the stream before the layer is the one before the MLP.
        hooks = {(layer, "attn_out"): torch.zeros_like}
        place = (layer, "mlp_out")
        found = self.passes.read(self.some_tokens(stream), [place], hooks, start=layer, stop=layer + 1, stream=stream)
        return found[place].view(resid_mid.shape)

    def head_input(
        self, layer: int, resid: Float[Tensor, "*batch d_model"], head: int, which: str
    ) -> Float[Tensor, "*batch d_head"]:
        """One head's query, key or value (`which`: q, k or v) from the stream before its layer; of a group, the group's."""
        self.needs(which)
        stream, place = resid.reshape(-1, 1, self.d_model), (layer, which)
        found = self.passes.read(self.some_tokens(stream), [place], start=layer, stop=layer + 1, stream=stream)[place]
        return found[:, 0, self.entry(head, which)].view(*resid.shape[:-1], -1)

    def head_inputs(
        self, layer: int, which: str, resid: Float[Tensor, "head *batch d_model"]
    ) -> Float[Tensor, "*batch head d_head"]:
        """Every head's query, key or value, each from a stream of its own; of a group, the group's projection for each head."""
        return torch.stack([self.head_input(layer, resid[head], head, which) for head in range(self.n_heads)], dim=-2)

    def head_outs(self, layer: int, z: Float[Tensor, "*batch head d_head"]) -> Float[Tensor, "head *batch d_model"]:
        """What every head writes into the stream, without the layer's bias.

        Raises Unsupported where heads' outputs do not simply add up in the stream.
        """
        return torch.stack([self.head_out(layer, z[..., head, :], head) for head in range(self.n_heads)])

    def mlp(self, layer: int, reads: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream, from the stream that it reads."""
        if not self.parallel:
            return self.mlp_out(layer, reads)
        self.needs("mlp_out")
        stream, place = reads.reshape(-1, 1, self.d_model), (layer, "mlp_out")
        found = self.passes.read(self.some_tokens(stream), [place], start=layer, stop=layer + 1, stream=stream)
        return found[place].view(reads.shape)

    def entry(self, head: int, which: str) -> int:
        """Where a query head's own query, or its group's key or value, stands in TransformerLens's activation."""
        return head if which == "q" else head // self.group

    def head_out(self, layer: int, z: Float[Tensor, "*batch d_head"], head: int) -> Float[Tensor, "*batch d_model"]:
        """What one head writes into the stream, without the layer's bias.

        Raises Unsupported where heads' outputs do not simply add up in the stream (a norm after the attention, for one).
        """
        self.needs("head_out")
        return self._written(layer, z.reshape(-1, z.shape[-1]), head).view(*z.shape[:-1], self.d_model)

    def _written(self, layer: int, z: Float[Tensor, "row d_head"], head: int) -> Float[Tensor, "row d_model"]:
        place = (layer, "attn_out")

        def alone(activation: Tensor) -> Tensor:
            activation = torch.zeros_like(activation)
            activation[:-1, 0, head] = z
            return activation  # the last row stays without any head: the bias, if there is one

        stream = self.W_E.new_zeros(len(z) + 1, 1, self.d_model)
        hooks = {(layer, "z"): alone}
        found = self.passes.read(self.some_tokens(stream), [place], hooks, start=layer, stop=layer + 1, stream=stream)[place]
        return found[:-1, 0] - found[-1, 0]

    def logits(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of the whole vocabulary."""
        return torch.cat(list(self._logits(resid.reshape(-1, self.d_model)))).view(*resid.shape[:-1], -1)

    def answer_logits(
        self, resid: Float[Tensor, "*batch prompt d_model"], answers: Int[Tensor, "prompt answer"]
    ) -> Float[Tensor, "*batch prompt answer"]:
        """Logits of the answer tokens alone; those of the others are not kept."""
        wanted, first, parts = answers.expand(*resid.shape[:-1], -1).reshape(-1, answers.shape[1]), 0, []
        for logits in self._logits(resid.reshape(-1, self.d_model)):
            parts.append(logits.gather(1, wanted[first : first + len(logits)]))
            first += len(logits)
        return torch.cat(parts).view(*resid.shape[:-1], answers.shape[1])

    def _logits(self, resid: Float[Tensor, "row d_model"]) -> Iterator[Float[Tensor, "row d_vocab"]]:
        # The row itself, and a copy or two on the way, such as the one in float32.
        step = max(1, LOGITS_CAP // (3 * self.W_U.shape[1] * resid.element_size()))
        for part in resid.split(step):
            stream = part[:, None]
            logits = self.passes(self.some_tokens(stream), start=self.n_layers, stream=stream, logits=True)
            yield logits[:, 0]

    @torch.inference_mode()
    def frozen_norm(
        self, x: Float[Tensor, "*batch d_model"], like: Float[Tensor, "*batch d_model"] | None
    ) -> Float[Tensor, "*batch d_model"]:
        """The final norm of a part of the stream, its scale frozen at that of the whole stream `like`, without its bias.

        With None in its place there is no division by any scale.

        Raises Unsupported where the final norm is neither a layer norm nor an RMS norm.
        """
        self.needs("frozen_norm")
        return self._frozen_norm(x, like)

    def direct_logits(self, directions: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """What directions in the final stream add to the logits: the norm's gain counts, and its scale is 1.

        Raises Unsupported as `frozen_norm` does.
        """
        return self.frozen_norm(directions, None) @ self.W_U

    def _frozen_norm(self, x: Tensor, like: Tensor | None) -> Tensor:
        norm, flat = self.bridge.ln_final, x.reshape(-1, 1, self.d_model)
        bias = norm(torch.zeros_like(flat[:1]))
        # By its own scale it gives what it always gives; times that scale it is linear, as it must be to be shared out.
        unscaled = ((norm(flat) - bias).view(x.shape)) * self._scale(x)
        return unscaled if like is None else unscaled / self._scale(like)

    def _scale(self, x: Tensor) -> Tensor:
        squares = x.pow(2).mean(-1, keepdim=True) if self._rms else x.var(-1, unbiased=False, keepdim=True)
        return (squares + self.eps).sqrt()

    @property
    def _rms(self) -> bool:
        return bool(getattr(self.bridge.cfg, "uses_rms_norm", False)) or self.bridge.cfg.normalization_type in ("RMS", "RMSPre")

    @property
    def eps(self) -> float:
        """The epsilon of the norms."""
        return float(self.bridge.cfg.eps)

    def some_tokens(self, stream: Float[Tensor, "prompt pos d_model"]) -> Int[Tensor, "prompt pos"]:
        """Tokens for a pass whose embedding nobody looks at."""
        return torch.ones(stream.shape[:2], dtype=torch.long, device=stream.device)
