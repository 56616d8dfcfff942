"""The final norm of parts of a stream, at the scale of the whole: what direct attribution asks for."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class FinalNorm:
    """A layer norm or an RMS norm, found out from its module by what it does.

    known: whether it is one of the two.
    """

    def __init__(self, module: Any, like: Float[Tensor, "*batch d_model"]) -> None:
        """module: gives the norm of `[..., d_model]`. like: some tensor of the model's dtype, width and device."""
        self._module = module
        eps = next(
            (found for name in ("eps", "variance_epsilon") if isinstance(found := getattr(module, name, None), float)), 1e-5
        )
        self._eps, width = float(eps), like.shape[-1]
        with torch.inference_mode(False), torch.no_grad():
            x = torch.randn(4, width, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype) + 0.5
            self._bias = module(torch.zeros_like(x[:1]))[0]
            self._rms = self._is_linear(x, rms=True)
            self.known = self._rms or self._is_linear(x, rms=False)

    def _is_linear(self, x: Tensor, *, rms: bool) -> bool:
        """Whether the module, times one of the two scales, is linear."""
        given = (self._module(x) - self._bias) * self._scale(x, rms=rms)
        both = x[:1] + x[1:2]
        whole = (self._module(both) - self._bias) * self._scale(both, rms=rms)
        off = (given[:1] + given[1:2] - whole).abs().max()
        return bool(off <= (1e-3 if x.dtype in (torch.float32, torch.float64) else 0.1) * whole.abs().max())

    def frozen(self, x: Float[Tensor, "*batch d_model"], like: Tensor | None) -> Float[Tensor, "*batch d_model"]:
        """The norm of a part of the stream, without its bias, at the scale of the stream `like`; with None, at 1."""
        # By its own scale it gives what it always gives; times that scale it is linear, as it must be to be shared out.
        unscaled = (self._module(x) - self._bias) * self._scale(x, rms=self._rms)
        return unscaled if like is None else unscaled / self._scale(like, rms=self._rms)

    def _scale(self, x: Tensor, *, rms: bool) -> Float[Tensor, "*batch one"]:
        squares = x.pow(2).mean(-1, keepdim=True) if rms else x.var(-1, unbiased=False, keepdim=True)
        return (squares + self._eps).sqrt()
