"""The steps of any decoder by the model's own modules.

Norms, projections, MLPs with gates or experts, adapters: whatever works position by position is the model's own code, called on
the rows that are asked for. Ours are the core of attention and the wiring, which configuration and names say
(`circuit_claims.engine.decoder.wiring`), and which is compared with the model, layer by layer, before it is used.
"""

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from circuit_claims.engine.decoder import wiring
from circuit_claims.engine.decoder.attention_core import AttentionCore
from circuit_claims.engine.decoder.module_layer import ModuleLayer, module_layer, rotations
from circuit_claims.engine.decoder.plain_modules import bare, plain
from circuit_claims.engine.decoder.reading_norm import ReadingNorm, reading_norm_of
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.final_norm import FinalNorm
from circuit_claims.engine.run import MEMORY_CAP, ROWS
from circuit_claims.engine.streams import streams_before
from circuit_claims.engine.unsupported import Unsupported, UnsupportedArchitecture
from circuit_claims.engine.weights import Weights

#: What a layer's stream may be off by, as a share of its largest number, however coarse the dtype.
COARSEST = 0.06
#: What a layer adds to the stream may be off by in float32, as a share of its root mean square.
ADDED = 1e-2


class ModuleSteps(Steps):
    """One subject's forward pass in the modules that transformers made for it."""

    def __init__(self, bridge: Any, max_memory: int = MEMORY_CAP) -> None:
        """Find the parts of a booted bridge, in the mode it is in.

        max_memory: bytes that the activations of interventions under way may occupy; larger batches are split.

        Raises UnsupportedArchitecture where they are put together in a way that is not known.
        """
        cfg = bridge.cfg
        if not hasattr(bridge, "blocks") or not hasattr(bridge, "unembed") or not hasattr(bridge, "ln_final"):
            raise UnsupportedArchitecture("it is not one stack of blocks with a final norm and an unembedding")
        self._whole, self._blocks = bridge.original_model, list(bridge.blocks)
        config = self._whole.config.get_text_config()
        plan = wiring.wiring(config)
        self.parallel, self.write_scale = plan.parallel, plan.write_scale
        self._logit_scale, self._logit_cap = plan.logit_scale, plan.logit_cap
        self.linear_logits = plan.logit_cap is None
        self.n_layers, self.n_heads, self.d_model = len(self._blocks), cfg.n_heads, cfg.d_model
        self.d_head, self.d_vocab, self.n_ctx = cfg.d_head, cfg.d_vocab, cfg.n_ctx
        self.d_mlp = getattr(cfg, "d_mlp", None) or 4 * cfg.d_model
        self.normalization: str = cfg.normalization_type
        self.max_memory = max_memory
        turning = rotations(_holder(self._whole), config, plan.pairing, self.n_layers)
        self.layers: list[ModuleLayer] = [
            module_layer(block, layer, config, turning[layer] if turning else None, parallel=plan.parallel)
            for layer, block in enumerate(self._blocks)
        ]
        groups = {layer.core.group for layer in self.layers}
        if len(groups) > 1 or min(groups) < 1 or self.n_heads % min(groups):
            raise UnsupportedArchitecture("its layers have unlike numbers of keys and values, or more than there are heads")
        self.n_kv_heads = self.n_heads // groups.pop()
        self.heads_add_up = all(layer.after_attention is None for layer in self.layers)
        self._final, self._head = plain(bridge.ln_final), plain(bridge.unembed)
        if not isinstance(self._head, nn.Linear):
            raise UnsupportedArchitecture("its unembedding is no linear layer")
        self.W_E = bridge.W_E.detach()
        # A view of the weights, unless logits have a factor, which is part of what reads them off the stream.
        columns = self._head.weight.detach().T
        self.W_U = columns if self._logit_scale == 1 else columns * self._logit_scale
        self._norm = FinalNorm(self._final, self.W_E)
        self._projections: dict[int, Tensor] = {}
        self._reading_norms: dict[int, ReadingNorm | None] = {}

    def needs(self, *sites: str, edited: bool = False) -> None:
        """Raise Unsupported, with the reason, where this architecture has no such activation."""
        super().needs(*sites, edited=edited)
        if "frozen_norm" in sites and not self._norm.known:
            raise Unsupported("the final norm of this architecture is neither a layer norm nor an RMS norm")

    def embed(self, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_model"]:
        """The stream before the first layer, as the model's own code makes it."""
        parts = []
        # A few prompts at a time: on the way the model makes a mask of all pairs of positions.
        for some in tokens.split(max(1, ROWS // tokens.shape[1])):
            with streams_before(self._blocks[:1], only=True) as streams:
                self._whole(input_ids=some, use_cache=False)
            parts += streams
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def token_embeddings(self, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What the tokens alone put into the stream, without their positions: scaled, where the model scales embeddings.

        Raises Unsupported where the stream begins with anything else.
        """
        return self.W_E[tokens] * self._embedding_scale

    @cached_property
    def _embedding_scale(self) -> float:
        """By how much the model multiplies its embeddings."""
        tokens = torch.linspace(0, len(self.W_E) - 1, 32, device=self.W_E.device).long().unique()
        streams, rows = self.embed(tokens[:, None])[:, 0].float(), self.W_E[tokens].float()
        # Positions, where they are learned, are the same for all.
        streams, rows = streams - streams.mean(0), rows - rows.mean(0)
        factor = float((streams * rows).sum() / rows.pow(2).sum())
        coarse = self.W_E.dtype in (torch.bfloat16, torch.float16)
        if not float((streams - factor * rows).norm()) <= (0.02 if coarse else 1e-4) * float(streams.norm()):
            raise Unsupported("the stream of this model begins with something else than its embeddings")
        return 1.0 if abs(factor - 1) < (0.01 if coarse else 1e-4) else factor

    def core(self, layer: int) -> AttentionCore:
        """What a layer does between its projections."""
        return self.layers[layer].core

    def _read(self, layer: int, resid: Tensor) -> Tensor:
        norm = self.layers[layer].before_attention
        return resid if norm is None else norm(resid)

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.d_head))

    def qkv(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as projected."""
        its, normed = self.layers[layer], self._read(layer, resid)
        return self._heads(its.q(normed)), self._heads(its.k(normed)), self._heads(its.v(normed))

    def keys_and_values(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor]:
        """Keys and values alone."""
        its, normed = self.layers[layer], self._read(layer, resid)
        return self._heads(its.k(normed)), self._heads(its.v(normed))

    def queries(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch head d_head"]:
        """Queries alone."""
        return self._heads(self.layers[layer].q(self._read(layer, resid)))

    def head_input(
        self, layer: int, resid: Float[Tensor, "*batch d_model"], head: int, which: str
    ) -> Float[Tensor, "*batch d_head"]:
        """One head's query, key or value (`which`: q, k or v) from the stream before its layer; of a group, the group's."""
        projected = getattr(self.layers[layer], which)(self._read(layer, resid))
        return self._heads(projected)[..., head if which == "q" else head // self.group, :]

    def head_inputs(
        self, layer: int, which: str, resid: Float[Tensor, "head *batch d_model"]
    ) -> Float[Tensor, "*batch head d_head"]:
        """Every head's query, key or value, each from a stream of its own; of a group, the group's projection for each head."""
        weight = self.head_weights(layer, which)
        if weight is None:  # all heads of each stream are computed
            of_each = [self.head_input(layer, resid[head], head, which) for head in range(self.n_heads)]
            return torch.stack(of_each, dim=-2)
        found = torch.bmm(self._read(layer, resid).reshape(self.n_heads, -1, self.d_model), weight)
        bias = getattr(self.layers[layer], which).bias
        if bias is not None:
            found = found + bias.view(-1, 1, self.d_head)[self._entries(which)]
        return found.transpose(0, 1).reshape(*resid.shape[1:-1], self.n_heads, self.d_head)

    def head_weights(self, layer: int, which: str) -> Float[Tensor, "head d_model d_head"] | None:
        """What takes the normed stream to each head's query, key or value; None for an adapter, or quantised weights."""
        projection: Any = getattr(self.layers[layer], which)
        if type(projection) is not nn.Linear:
            return None
        weight = projection.weight.detach().view(-1, self.d_head, self.d_model)
        return weight[self._entries(which)].transpose(1, 2)

    def reading_norm(self, layer: int) -> ReadingNorm | None:
        """The norm before the projections to queries, keys and values, found out from its module."""
        if layer not in self._reading_norms:
            module = self.layers[layer].before_attention
            self._reading_norms[layer] = None if module is None else reading_norm_of(module, self.W_E)
        return self._reading_norms[layer]

    def _entries(self, which: str) -> Int[Tensor, " head"]:
        """Where each query head's own query, or its group's key or value, stands."""
        return torch.arange(self.n_heads, device=self.W_E.device) // (1 if which == "q" else self.group)

    def W_O(self, layer: int) -> Float[Tensor, "head_d_head d_model"]:
        """The linear part of the projection of head outputs: asked of the module itself, so that adapters count."""
        if layer not in self._projections:
            o: Any = self.layers[layer].o
            if type(o) is nn.Linear:
                self._projections[layer] = o.weight.detach().T
            else:
                with torch.inference_mode(False), torch.no_grad():
                    one = torch.eye(self.n_heads * self.d_head, dtype=self.W_E.dtype, device=self.W_E.device)
                    self._projections[layer] = o(one) - o(torch.zeros_like(one[:1]))
        return self._projections[layer]

    def projected(self, layer: int, z: Float[Tensor, "*batch head d_head"]) -> Float[Tensor, "*batch d_model"]:
        """Head outputs through their projection."""
        return self.layers[layer].o(z.flatten(-2))

    def written(self, layer: int, projected: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the attention adds to the stream: through a norm and by a factor, where there are any."""
        norm = self.layers[layer].after_attention
        out = projected if norm is None else norm(projected)
        return out if self.write_scale == 1 else out * self.write_scale

    def mlp(self, layer: int, reads: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream, a block of rows at a time: its hidden layer is wide."""
        rows = reads.reshape(-1, self.d_model)
        if len(rows) <= ROWS:
            return self._mlp(layer, rows).view(reads.shape)
        return torch.cat([self._mlp(layer, part) for part in rows.split(ROWS)]).view(reads.shape)

    def _mlp(self, layer: int, rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        its = self.layers[layer]
        out = its.mlp(rows if its.before_mlp is None else its.before_mlp(rows))
        if its.after_mlp is not None:
            out = its.after_mlp(out)
        return out if self.write_scale == 1 else out * self.write_scale

    def logits(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of the whole vocabulary."""
        return self._shaped(self._head(self._final(resid)))

    def answer_logits(
        self, resid: Float[Tensor, "*batch prompt d_model"], answers: Int[Tensor, "prompt answer"]
    ) -> Float[Tensor, "*batch prompt answer"]:
        """Logits of the answer tokens alone: a few rows of the unembedding instead of all of them."""
        found = torch.einsum("...pd,pad->...pa", self._final(resid), self._head.weight.detach()[answers])
        return self._shaped(found if self._head.bias is None else found + self._head.bias.detach()[answers])

    def _shaped(self, logits: Tensor) -> Tensor:
        if self._logit_scale != 1:
            logits = logits * self._logit_scale
        return logits if self._logit_cap is None else torch.tanh(logits / self._logit_cap) * self._logit_cap

    def frozen_norm(
        self, x: Float[Tensor, "*batch d_model"], like: Float[Tensor, "*batch d_model"] | None
    ) -> Float[Tensor, "*batch d_model"]:
        """The final norm of a part of the stream, its scale frozen at that of the whole stream `like`, without its bias.

        With None in its place there is no division by any scale.

        Raises Unsupported where the final norm is neither a layer norm nor an RMS norm.
        """
        self.needs("frozen_norm")
        return self._norm.frozen(x, like)

    def weights(self) -> Weights:
        """Raises Unsupported: each architecture lays its weights out in its own way."""
        raise Unsupported(
            "the weights of this architecture are not laid out as GPT-2's: take a subject of GPT-2's architecture"
        )

    def check_against(self, bridge: Any, tokens: Int[Tensor, "prompt pos"], tolerance: float) -> None:
        """Compare every layer with the bridge's own forward pass, and the logits.

        Raises UnsupportedArchitecture, which names the first layer that is another, where the stream differs by more than
        `tolerance` as a share of its largest number, or log-probabilities by more than `tolerance` as a share of their spread
        (root mean squares over the vocabulary: a stream of which a few numbers are very large leaves few digits to the rest).
        """
        with streams_before(list(bridge.blocks)) as theirs:
            logits = bridge(tokens, prepend_bos=False, use_cache=False)
        if len(theirs) != self.n_layers + 1:
            raise UnsupportedArchitecture("its layers are not called once each, one after the other")
        ours = self.run(tokens).resid
        for layer, (own, other) in enumerate(zip(ours[1:], theirs[1:], strict=True)):
            off = float((own - other).abs().max() / other.abs().max().clamp_min(1e-30))
            if not off <= min(tolerance, COARSEST):
                raise UnsupportedArchitecture(f"layer {layer} is not put together as its names say (off by {off:.2g})")
            if own.dtype in (torch.float32, torch.float64):
                # Of what the layer adds: a stream with a few very large numbers hides what is wrong with the others.
                added, wanted = own - ours[layer], other - theirs[layer]
                off = float((added - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt().clamp_min(1e-30))
                if not off <= ADDED:
                    raise UnsupportedArchitecture(f"layer {layer} adds something else than its names say (off by {off:.2g})")
        found, wanted = (part.float().log_softmax(-1) for part in (self.logits(ours[-1]), logits))
        off = float(((found - wanted).pow(2).mean(-1).sqrt() / wanted.std(-1).clamp_min(1e-6)).max())
        if not off <= tolerance:
            raise UnsupportedArchitecture(f"its logits are not those of its final stream (off by {off:.2g})")


def _holder(model: nn.Module) -> nn.Module:
    """The module that holds the layers: the model without its head, and within it a decoder, where there is one (OPT)."""
    base = bare(getattr(model, "base_model", model))
    return bare(getattr(base, "decoder", base))
