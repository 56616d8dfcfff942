"""The final norm of parts of a stream, at the scale of the whole: what direct attribution asks for."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class FinalNorm:
    """A layer norm or an RMS norm, found out from its module by what it does.

    Everything here is computed in float32 at least: squares of half precision overflow.

    known: whether it is one of the two.
    """

    def __init__(self, module: Any, like: Float[Tensor, "*batch d_model"]) -> None:
        """module: gives the norm of `[..., d_model]`. like: some tensor of the model's dtype, width and device."""
        self._module, self._dtype = module, like.dtype
        said = (getattr(module, name, None) for name in ("eps", "variance_epsilon"))
        self._eps = next((eps for eps in said if isinstance(eps, float)), 1e-5)
        with torch.inference_mode(False), torch.no_grad():
            x = torch.randn(4, like.shape[-1], generator=torch.Generator().manual_seed(0)).to(like.device)
            self._bias = self._given(torch.zeros_like(x[:1]))[0]
            # A layer norm takes the mean out, so that a shift of all entries changes nothing.
            normed, shifted = self._given(x), self._given(x + 3)
            self._rms = bool((normed - shifted).abs().max() > 0.1 * normed.abs().max())
            both, parts = self.frozen(x[:1] + x[1:2], x[2:3]), self.frozen(x[:2], x[2:3])
            own = self.frozen(x, x) + self._bias
            limit = 0.05 if like.dtype in (torch.bfloat16, torch.float16) else 1e-4
            self.known = all(
                bool((ours - wanted).abs().max() <= limit * wanted.abs().max())
                for ours, wanted in ((parts.sum(0, keepdim=True), both), (own, normed))
            )

    @property
    def eps(self) -> float:
        """What is added below the root."""
        return self._eps

    @property
    def centred(self) -> bool:
        """Whether the mean is taken out: of a layer norm, and not of an RMS norm."""
        return not self._rms

    def frozen(self, x: Float[Tensor, "*batch d_model"], like: Tensor | None) -> Float[Tensor, "*batch d_model"]:
        """The norm of a part of the stream, without its bias, at the scale of the stream `like`; with None, at 1."""
        dtype, x = x.dtype, _wide(x)
        if not self._rms:
            x = x - x.mean(-1, keepdim=True)
        # The norm with its scale taken out is linear, so the module may be asked at size 1, where its epsilon hardly counts.
        size = x.pow(2).mean(-1, keepdim=True).sqrt()
        unit = x / torch.where(size > 0, size, 1.0)
        result = (self._given(unit) - self._bias.to(x.dtype)) * self._scale(unit) * size
        return (result if like is None else result / self._scale(_wide(like))).to(dtype)

    def _given(self, x: Tensor) -> Tensor:
        return self._module(x.to(self._dtype)).to(x.dtype)

    def _scale(self, x: Tensor) -> Float[Tensor, "*batch one"]:
        squares = x.pow(2).mean(-1, keepdim=True) if self._rms else x.var(-1, unbiased=False, keepdim=True)
        return (squares + self._eps).sqrt()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
