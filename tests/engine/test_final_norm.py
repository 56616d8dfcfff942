"""The final norm of parts: which of the two it is, and its parts' sum, in every dtype and at real sizes."""

import pytest
import torch
from torch import nn

from circuit_claims.engine.final_norm import FinalNorm

WIDTH = 768
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


class RMS(nn.Module):
    """As transformers writes it for Llama."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(1 + 0.3 * torch.randn(WIDTH)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)).to(x.dtype)


def layer_norm(eps: float) -> nn.Module:
    norm = nn.LayerNorm(WIDTH, eps)
    with torch.no_grad():
        norm.weight.add_(0.3 * torch.randn(WIDTH))
        norm.bias.add_(torch.randn(WIDTH))
    return norm


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [layer_norm, RMS])
def test_parts_share_out_the_norm_of_the_whole(make, dtype):
    """With means of very unlike size, and entries whose squares overflow in half precision."""
    torch.manual_seed(0)
    module = make(1e-5).to(dtype).requires_grad_(False)
    norm = FinalNorm(module, torch.zeros(1, WIDTH, dtype=dtype))
    assert norm.known and norm._rms is (make is RMS)
    part = (torch.randn(5, WIDTH, dtype=torch.float64) + 3).to(dtype)
    rest = (torch.randn(5, WIDTH, dtype=torch.float64) * 30 + torch.tensor([[-3.0]])).to(dtype)
    rest[:, 7] = 900.0
    whole = part + rest
    bias = module(torch.zeros(1, WIDTH, dtype=dtype))
    shares = norm.frozen(part, whole) + norm.frozen(rest, whole) + bias
    wanted = module(whole)
    rounding = {torch.float32: 1e-5, torch.float64: 1e-5, torch.bfloat16: 0.03, torch.float16: 0.004}[dtype]
    assert shares.isfinite().all()
    assert (shares - wanted).abs().max() <= rounding * wanted.abs().max()


@pytest.mark.parametrize("make", [layer_norm, RMS])
def test_a_small_part_is_not_lost_in_the_epsilon(make):
    """An epsilon that is not found under a known name is not missed in parts that are asked at size 1."""
    torch.manual_seed(0)
    module = make(1e-3).requires_grad_(False)
    known, unknown = (FinalNorm(made, torch.zeros(1, WIDTH)) for made in (module, nn.Sequential(module)))
    part, whole = 1e-3 * torch.randn(4, WIDTH), 20 * torch.randn(4, WIDTH)
    assert (known.frozen(part, whole) - unknown.frozen(part, whole)).abs().max() <= 1e-3 * known.frozen(part, whole).abs().max()
    assert (known.frozen(part, None) * 2 - known.frozen(2 * part, None)).abs().max() < 1e-8


def test_what_is_neither_is_not_known():
    torch.manual_seed(0)

    class Squashing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x)

    assert not FinalNorm(Squashing(), torch.zeros(1, WIDTH)).known
    assert not FinalNorm(nn.GroupNorm(4, WIDTH).requires_grad_(False), torch.zeros(1, WIDTH)).known
