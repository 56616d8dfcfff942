"""Engines on every family of decoders: attribution patching, against gradients of transformers' own model."""

import pytest
import torch

from circuit_claims.engine.edits import ATTRIBUTED, HEAD_SITES, Edit, Site
from tests.support.decoders.engines import CLEAN, CORRUPTED, DECODERS, Real, agree, real, spread

#: A gradient is a sum of more terms than a forward pass, and rounds accordingly.
ROUNDING = 1e-4
ANSWERS = torch.tensor([[3, 9], [210, 0], [100, 50]])


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Real:
    return real(request.param)


def plain_attribution(decoder: Real, site: Site, layer: int) -> torch.Tensor:
    """One site of one layer: `[prompt, pos, head]`, or `[prompt, pos]`.

    The site is set to what it is, for every head alone; how the logit difference changes with that is the gradient.
    """
    twin, clean, corrupted = decoder.plain, decoder.plain(CLEAN), decoder.plain(CORRUPTED)

    def value(there, head: int | None) -> torch.Tensor:
        found = there.at[layer, site].transpose(1, 2) if site == "pattern" else there.at[layer, site]
        return (found if head is None else found[:, :, twin.group_of(head, site)]).detach().clone()

    heads = list(range(twin.n_heads)) if site in HEAD_SITES else [None]
    set_to = [value(corrupted, head).requires_grad_() for head in heads]
    with torch.enable_grad():
        edits = [Edit(layer, site, there, head) for head, there in zip(heads, set_to, strict=True)]
        chosen = twin(CORRUPTED, edits).logits[:, -1].gather(1, ANSWERS)
        gradients = torch.autograd.grad((chosen[:, 0] - chosen[:, 1]).sum(), set_to)
    found = [
        (gradient * (value(clean, head) - there)).sum(-1).detach()
        for gradient, head, there in zip(gradients, heads, set_to, strict=True)
    ]
    return torch.stack(found, dim=-1) if site in HEAD_SITES else found[0]


def test_attributions_are_gradients_times_differences(decoder):
    engine = decoder.engine
    with decoder.may_refuse("attributions"):
        ours = engine.attributions(engine.run(CLEAN), engine.run(CORRUPTED), ANSWERS)
        for memory in (1, 300_000):
            split = engine.attributions(engine.run(CLEAN), engine.run(CORRUPTED), ANSWERS, memory=memory)
            assert all(agree(split[site], ours[site], ROUNDING) for site in ATTRIBUTED)
        assert set(ours) == set(ATTRIBUTED)
        for site in ATTRIBUTED:
            theirs = torch.stack([plain_attribution(decoder, site, layer) for layer in range(3)], dim=1)
            assert agree(ours[site], theirs, ROUNDING), site
            assert spread(theirs) > 1e-2


@torch.no_grad()
def test_the_gradient_is_what_small_steps_change(decoder):
    """Of the twin itself: a thousandth of the way in, and as much away, in one head or stream at a time."""
    twin, clean, corrupted = decoder.plain, decoder.plain(CLEAN), decoder.plain(CORRUPTED)
    sites: tuple[tuple[Site, int | None], ...] = (
        ("k", 1),
        ("v", 2),
        ("q", 3),
        ("z", 0),
        ("resid_pre", None),
        ("mlp_out", None),
    )
    for site, head in sites:
        at = (1, site)
        here, there = corrupted.at[at], clean.at[at]
        if head is not None:
            here, there = (value[:, :, twin.group_of(head, site)] for value in (here, there))
        differences = []
        for step in (0.001, -0.001):
            edit = Edit(1, site, here + step * (there - here), head)
            chosen = twin(CORRUPTED, [edit]).logits[:, -1].gather(1, ANSWERS)
            differences.append(chosen[:, 0] - chosen[:, 1])
        steps = (differences[0] - differences[1]) / 0.002
        gradient = plain_attribution(decoder, site, 1)
        gradient = gradient.sum(1) if head is None else gradient[:, :, head].sum(1)
        assert float((steps - gradient).abs().max()) < 0.02 * (1 + float(gradient.abs().max())), site
