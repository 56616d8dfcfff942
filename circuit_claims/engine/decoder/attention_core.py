"""The core of attention: from projected queries, keys and values to head outputs.

It alone looks from one position at others, so that it is ours; everything around it works position by position, and can be the
model's own code. One class serves all architectures of decoders: norms and rotation of queries and keys, keys and values shared
by groups of heads, a scale, a soft cap, a sliding window.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.engine.decoder.rotation import Rotation

#: A norm of queries or keys, of all heads together or of each by itself: `[..., (head,) d_head]` to the same shape.
HeadNorm = Callable[[Tensor], Tensor]


def softmax(scores: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch key"]:
    """Probabilities from scores; of half precision in float32 on the way, as transformers computes them."""
    if scores.dtype in (torch.bfloat16, torch.float16):
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    return scores.softmax(-1)


@dataclass(frozen=True)
class AttentionCore:
    """What one layer does between its projections.

    scale: of the scores; group: how many query heads share a key and a value; cap: scores are `cap * tanh(score / cap)` (Gemma
    2); window: a query sees this many keys, itself among them; norms_all_heads: whether a norm of queries or keys needs those
    of all heads (OLMo 2 norms them side by side, StableLM each by a gain of its own).
    """

    scale: float
    group: int = 1
    cap: float | None = None
    window: int | None = None
    rotation: Rotation | None = None
    q_norm: HeadNorm | None = None
    k_norm: HeadNorm | None = None
    norms_all_heads: bool = False

    def turned_q(
        self, q: Float[Tensor, "*batch d_head"], at: int | Int[Tensor, "prompt k"], length: int, *, heads: bool = True
    ) -> Float[Tensor, "*batch d_head"]:
        """Queries as the scores take them, normed and rotated; the arguments are those of `Rotation.turned`."""
        return self._turned(q, self.q_norm, at, length, heads)

    def turned_k(
        self, k: Float[Tensor, "*batch d_head"], at: int | Int[Tensor, "prompt k"], length: int, *, heads: bool = True
    ) -> Float[Tensor, "*batch d_head"]:
        """Keys, likewise."""
        return self._turned(k, self.k_norm, at, length, heads)

    def turned_own_k(
        self,
        shared: Float[Tensor, "*batch kv_head d_head"],
        own: Float[Tensor, "*batch head d_head"],
        at: int,
        length: int,
    ) -> Float[Tensor, "*batch head d_head"]:
        """Keys as the scores take them where every head has its own, of which `shared` are what groups have.

        Where keys are normed all together, a head's own is normed in the place of its group's, and for this head alone.
        """
        if self.group == 1 or not self.norms_all_heads:
            return self.turned_k(own, at, length)
        turned = []
        for head in range(own.shape[-2]):
            place = head // self.group
            others = shared[..., :place, :], shared[..., place + 1 :, :]
            keys = torch.cat([others[0], own[..., head : head + 1, :], others[1]], -2)
            turned.append(self.turned_k(keys, at, length)[..., place, :])
        return torch.stack(turned, -2)

    def _turned(self, x: Tensor, norm: HeadNorm | None, at: int | Tensor, length: int, heads: bool) -> Tensor:
        if norm is not None:
            x = norm(x)
        return x if self.rotation is None else self.rotation.turned(x, at, length, heads=heads)

    def of_each_head(self, shared: Float[Tensor, "*batch kv_head d_head"]) -> Float[Tensor, "*batch head d_head"]:
        """Keys or values, one for every query head: those of a group are equal."""
        return shared if self.group == 1 else shared.repeat_interleave(self.group, -2)

    def hidden(self, queries: int, keys: int, first_query: int, device: torch.device) -> Bool[Tensor, "query key"] | None:
        """Which keys a query does not attend to: those after it, and those before its window. None where it sees all."""
        windowed = self.window is not None and keys > self.window
        if queries == 1 and first_query == keys - 1 and not windowed:
            return None
        key, query = torch.arange(keys, device=device)[None], (torch.arange(queries, device=device) + first_query)[:, None]
        after = key > query
        return after | (key <= query - self.window) if windowed and self.window is not None else after

    def capped(self, scores: Tensor) -> Tensor:
        """Scaled scores, with the soft cap where there is one."""
        return scores if self.cap is None else torch.tanh(scores / self.cap) * self.cap

    def pattern(
        self,
        q: Float[Tensor, "*batch query head d_head"],
        k: Float[Tensor, "*batch key kv_head d_head"],
        first_query: int = 0,
    ) -> Float[Tensor, "*batch head query key"]:
        """Attention probabilities of turned queries and keys; `first_query` is the first one's position among the keys."""
        if k.shape[-2] != q.shape[-2]:
            k = self.of_each_head(k)
        scores = self.capped(q.transpose(-2, -3) @ k.transpose(-2, -3).transpose(-1, -2) * self.scale)
        hidden = self.hidden(q.shape[-3], k.shape[-3], first_query, q.device)
        return softmax(scores if hidden is None else scores.masked_fill(hidden, -torch.inf))

    def mixed(
        self, pattern: Float[Tensor, "*batch head query key"], v: Float[Tensor, "*batch key kv_head d_head"]
    ) -> Float[Tensor, "*batch query head d_head"]:
        """Head outputs: values averaged by the pattern."""
        if v.shape[-2] != pattern.shape[-3]:
            v = self.of_each_head(v)
        return (pattern @ v.transpose(-2, -3)).transpose(-2, -3)

    def attend(
        self,
        q: Float[Tensor, "*batch query head d_head"],
        k: Float[Tensor, "*batch key kv_head d_head"],
        v: Float[Tensor, "*batch key kv_head d_head"],
        first_query: int = 0,
    ) -> Float[Tensor, "*batch query head d_head"]:
        """Head outputs from turned queries and keys, by torch's fused kernel where it knows the scores."""
        if self.cap is not None:
            return self.mixed(self.pattern(q, k, first_query), v)
        if k.shape[-2] != q.shape[-2]:
            k, v = self.of_each_head(k), self.of_each_head(v)
        batch, n_queries, n_keys = q.shape[:-3], q.shape[-3], k.shape[-3]
        windowed = self.window is not None and n_keys > self.window
        causal = n_queries == n_keys and n_queries > 1 and not windowed
        mask = None
        if not causal and (hidden := self.hidden(n_queries, n_keys, first_query, q.device)) is not None:
            mask = q.new_zeros(n_queries, n_keys).masked_fill(hidden, -torch.inf)
        q, k, v = (part.reshape(-1, *part.shape[-3:]).transpose(1, 2) for part in (q, k, v))
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=self.scale)
        return z.transpose(1, 2).reshape(*batch, n_queries, *z.shape[1:2], z.shape[-1])

    def attend_at(
        self,
        q: Float[Tensor, "prompt query head d_head"],
        k: Float[Tensor, "prompt key kv_head d_head"],
        v: Float[Tensor, "prompt key kv_head d_head"],
        positions: Int[Tensor, "prompt query"],
    ) -> Float[Tensor, "prompt query head d_head"]:
        """Head outputs of turned queries at positions that each prompt has its own of."""
        key, query = torch.arange(k.shape[1], device=q.device), positions[:, None, :, None]
        seen = key <= query
        if self.window is not None:
            seen &= key > query - self.window
        k, v = self.of_each_head(k), self.of_each_head(v)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if self.cap is None:
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=self.scale)
        else:
            scores = self.capped(q @ k.transpose(-1, -2) * self.scale)
            z = softmax(scores.masked_fill(~seen, -torch.inf)) @ v
        return z.transpose(1, 2)
