"""Engines on every family of decoders: interventions, against whole passes of transformers' own model with plain hooks."""

from collections.abc import Sequence
from functools import cache

import pytest
import torch

from circuit_claims.engine.edits import HEAD_SITES, Edit, Site
from circuit_claims.engine.unsupported import Unsupported
from tests.support.decoders.engines import (
    CLEAN,
    CORRUPTED,
    DECODERS,
    DIFFERENT_FROM,
    EFFECT,
    END,
    SCATTERED,
    TWO,
    Real,
    agree,
    off,
    real,
)
from tests.support.decoders.families import PARALLEL
from tests.support.decoders.plain import Pass, some

SITES: tuple[Site, ...] = (*HEAD_SITES, "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
HEADS, LAYERS = range(4), range(3)


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Real:
    return real(request.param)


def taken(
    decoder: Real, there: Pass, layer: int, site: Site, head: int | None = None, positions: torch.Tensor | None = None
) -> Edit:
    """A site set to what it is in another pass: of one head, or of all of them."""
    value = there.at[layer, site]
    if site == "pattern":
        value = value.transpose(1, 2)
    if head is not None:
        value = value[:, :, decoder.plain.group_of(head, site)]
    return Edit(layer, site, some(value, positions), head, positions)


#: Layers, positions and heads at which each site is edited: all positions, one or two a prompt, and END alone.
IN_HEADS = (
    (0, None, 2),
    (0, TWO, None),
    (1, None, None),
    (1, SCATTERED, 1),
    (1, TWO, 2),
    (2, None, 3),
    (2, END, 0),
    (2, END, None),
)
IN_STREAM = ((0, None), (0, SCATTERED), (1, TWO), (1, SCATTERED), (2, None), (2, END), (2, TWO))


def sweep(decoder: Real, there: Pass, site: Site) -> list[list[Edit]]:
    """One site, everywhere."""
    if site in HEAD_SITES:
        return [[taken(decoder, there, layer, site, head, positions)] for layer, positions, head in IN_HEADS]
    return [[taken(decoder, there, layer, site, None, positions)] for layer, positions in IN_STREAM]


def plainly(decoder: Real, tokens: torch.Tensor, interventions: Sequence[Sequence[Edit]]) -> torch.Tensor:
    """The final streams at END under each."""
    return torch.stack([decoder.plain(tokens, edits).final[:, -1] for edits in interventions])


@pytest.mark.parametrize("site", SITES)
@torch.inference_mode()
def test_edits_of_every_site_agree_with_plain_hooks(decoder, site):
    engine, base = decoder.engine, decoder.engine.run(CORRUPTED)
    interventions = sweep(decoder, decoder.plain(CLEAN), site)
    with decoder.may_refuse(site):
        ours = engine.intervene(base, interventions)
        theirs = plainly(decoder, CORRUPTED, interventions)
        assert agree(ours, theirs)
        untouched = decoder.plain(CORRUPTED)
        for intervention, one, other in zip(interventions, ours, theirs, strict=True):
            assert agree(one, other), intervention
        logits = torch.stack([decoder.plain(CORRUPTED, edits).logits[:, -1] for edits in interventions[:2]])
        assert agree(engine.logits(ours[:2]), logits)
        changed = [off(other, untouched.final[:, -1]) > EFFECT for other in theirs]
        # A key at END alone, say, may count for little; but most edits must do something.
        assert sum(changed) > 0.7 * len(changed), "the twin does nothing, so agreeing with it would mean nothing"


@pytest.mark.parametrize("family", sorted(PARALLEL))
def test_there_is_no_stream_between_attention_and_mlp_side_by_side(family):
    engine = real(family).engine
    base = engine.run(CLEAN)
    for use in (
        lambda: engine.intervene(base, [[Edit(0, "resid_mid", base.resid[0])]]),
        lambda: engine.final_stream(base, [Edit(0, "resid_mid", base.resid[0])]),
        lambda: engine.mlp_out(0, base.resid[0]),
        lambda: engine.trace(base, END),
        lambda: engine.needs("resid_mid"),
    ):
        with pytest.raises(Unsupported, match="side by side"):
            use()


def joint(decoder: Real, there: Pass) -> list[list[Edit]]:
    """Edits made together: of one layer, of several, of heads of one group, of one place twice."""

    def at(layer: int, site: Site, head: int | None = None, positions: torch.Tensor | None = None) -> Edit:
        return taken(decoder, there, layer, site, head, positions)

    generator = torch.Generator().manual_seed(5)
    keep = torch.rand(3, 3, 9, 4, generator=generator) < 0.4
    found = [
        [],
        [at(1, "q", 0), at(1, "k", 0), at(1, "v", 0)],
        [at(1, "k", 2), at(1, "k", 3, SCATTERED), at(1, "v", 3), at(1, "v", 2, TWO)],
        [at(1, "k"), at(1, "k", 1, SCATTERED), at(1, "v", None, TWO), at(1, "v", 1)],
        [at(0, "z", 1), at(0, "z", 2, SCATTERED), at(2, "z", 0, END)],
        [at(0, "attn_out", None, SCATTERED), at(0, "mlp_out", None, TWO), at(1, "v", 0), at(2, "q", 1, END)],
        [at(2, "resid_pre", None, SCATTERED), at(0, "k", 1), at(1, "resid_post", None, SCATTERED)],
        [at(0, "resid_pre", None, SCATTERED), at(0, "q", 3, SCATTERED), at(0, "z", 3, END), at(0, "mlp_out", None, END)],
        [at(1, "z"), at(1, "z", 2, TWO), at(1, "attn_out", None, END)],
        [
            Edit(layer, "z", there.at[layer, "z"].mean(0, keepdim=True).expand(3, -1, -1, -1), keep=keep[layer])
            for layer in LAYERS
        ],
        [Edit(1, "z", there.at[1, "z"], keep=keep[1]), at(1, "k", 3), at(1, "z", 0, SCATTERED), at(2, "mlp_out", None, TWO)],
        [at(layer, "z", head) for layer in LAYERS for head in HEADS],
    ]
    return found


@cache
@torch.inference_mode()
def jointly(name: str) -> tuple[list[list[Edit]], torch.Tensor]:
    """These edits, and the final streams under each: `[intervention, prompt, pos, d_model]`."""
    decoder = real(name)
    interventions = joint(decoder, decoder.plain(CLEAN))
    return interventions, torch.stack([decoder.plain(CORRUPTED, edits).final for edits in interventions])


@torch.inference_mode()
def test_edits_made_together_agree_with_plain_hooks(decoder):
    base, (interventions, final) = decoder.engine.run(CORRUPTED), jointly(decoder.name)
    ours, theirs = decoder.engine.intervene(base, interventions), final[:, :, -1]
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert agree(one, other), (index, interventions[index])
        assert index == 0 or off(other, theirs[0]) > EFFECT


@torch.inference_mode()
def test_patterns_edited_together_with_what_they_average(decoder):
    there = decoder.plain(CLEAN)
    edits = [
        [taken(decoder, there, 1, "pattern", 2), taken(decoder, there, 1, "v", 2, SCATTERED)],
        [taken(decoder, there, 1, "pattern", 3, TWO), taken(decoder, there, 1, "k", 3), taken(decoder, there, 1, "v", 3)],
        [taken(decoder, there, 0, "pattern"), taken(decoder, there, 0, "v"), taken(decoder, there, 2, "pattern", 0, END)],
        [taken(decoder, there, 2, "pattern", 1), taken(decoder, there, 2, "z", 1, SCATTERED)],
    ]
    with decoder.may_refuse("pattern"):
        ours = decoder.engine.intervene(decoder.engine.run(CORRUPTED), edits)
        assert agree(ours, plainly(decoder, CORRUPTED, edits))


@torch.inference_mode()
def test_the_stream_between_is_edited_after_what_the_attention_writes(decoder):
    there = decoder.plain(CLEAN)
    edits = [
        [taken(decoder, there, 1, "resid_mid", None, SCATTERED), taken(decoder, there, 1, "attn_out", None, TWO)],
        [taken(decoder, there, 0, "resid_mid", None, TWO), taken(decoder, there, 0, "resid_pre", None, SCATTERED)],
        [taken(decoder, there, 2, "resid_mid"), taken(decoder, there, 2, "mlp_out", None, END)],
    ]
    with decoder.may_refuse("resid_mid"):
        ours = decoder.engine.intervene(decoder.engine.run(CORRUPTED), edits)
        assert agree(ours, plainly(decoder, CORRUPTED, edits))


@torch.inference_mode()
def test_nothing_need_be_computed_where_edits_are_what_was_there(decoder):
    """`start`: two batches that are alike up to a position, after which edits at all positions differ."""
    there, base = decoder.plain(CLEAN), decoder.engine.run(CORRUPTED)
    sites: tuple[Site, ...] = ("resid_pre", "q", "k", "v", "z", "attn_out", "mlp_out", "resid_post")
    interventions = [
        [taken(decoder, there, index % 3, site, 1 if site in HEAD_SITES else None)] for index, site in enumerate(sites)
    ]
    interventions += [[taken(decoder, there, 1, "z", 2, END), taken(decoder, there, 0, "v", 1)]]
    theirs = plainly(decoder, CORRUPTED, interventions)
    for start in (0, 1, DIFFERENT_FROM):
        assert agree(decoder.engine.intervene(base, interventions, start=start), theirs)


@torch.inference_mode()
def test_a_cap_on_memory_changes_nothing(decoder):
    base, (interventions, _) = decoder.engine.run(CORRUPTED), jointly(decoder.name)
    whole = decoder.engine.intervene(base, interventions)
    for memory in (1, 40_000, 400_000):
        assert agree(decoder.engine.intervene(base, interventions, memory=memory), whole, 2e-6)


@torch.inference_mode()
def test_a_run_that_kept_keys_and_values_is_edited_alike(decoder):
    base, (interventions, final) = decoder.engine.run(CORRUPTED, keep=True), jointly(decoder.name)
    assert agree(decoder.engine.intervene(base, interventions), final[:, :, -1])


@torch.inference_mode()
def test_the_stream_is_set_elsewhere_than_where_the_layer_before_was_edited(decoder):
    there, streams = decoder.plain(CLEAN), (None, SCATTERED, TWO, END)
    interventions = [
        [taken(decoder, there, 0, site, 1 if site == "z" else None, first), taken(decoder, there, 1, "resid_pre", None, then)]
        for site in ("z", "mlp_out", "resid_post")
        for first in (SCATTERED, END)
        for then in streams
    ]
    ours = decoder.engine.intervene(decoder.engine.run(CORRUPTED), interventions)
    assert agree(ours, plainly(decoder, CORRUPTED, interventions))


@torch.inference_mode()
def test_the_final_stream_at_all_positions(decoder):
    base = decoder.engine.run(CORRUPTED)
    for edits, theirs in zip(*jointly(decoder.name), strict=True):
        assert agree(decoder.engine.final_stream(base, edits), theirs), edits


@torch.inference_mode()
def test_nothing_before_an_edit_hears_of_it(decoder):
    base, there = decoder.engine.run(CORRUPTED), decoder.plain(CLEAN)
    positions = torch.tensor([[6], [6], [7]])
    for site in ("resid_pre", "q", "k", "v", "z", "attn_out", "mlp_out", "resid_post"):
        edit = taken(decoder, there, 1, site, 3 if site in HEAD_SITES else None, positions)
        changed = decoder.engine.final_stream(base, [edit]) - base.resid[-1]
        for prompt, position in enumerate(positions[:, 0].tolist()):
            assert float(changed[prompt, :position].abs().max()) < 1e-6 * float(base.resid[-1].abs().max())
        assert float(changed[:, 6:].abs().max()) > 1e-3


@torch.inference_mode()
def test_patching_what_was_there_changes_nothing(decoder):
    base, there = decoder.engine.run(CORRUPTED), decoder.plain(CORRUPTED)
    for site in SITES:
        with decoder.may_refuse(site):
            same = decoder.engine.intervene(base, sweep(decoder, there, site))
            assert agree(same, base.resid[-1][:, -1].expand_as(same))


@torch.inference_mode()
def test_patching_everything_that_a_layer_hears_or_writes_gives_the_other_run(decoder):
    base, there = decoder.engine.run(CORRUPTED), decoder.plain(CLEAN)
    ways: list[list[Edit]] = [[taken(decoder, there, layer, "resid_pre")] for layer in LAYERS]
    ways += [[taken(decoder, there, layer, "resid_post")] for layer in LAYERS]
    written = [taken(decoder, there, layer, site) for layer in LAYERS for site in ("attn_out", "mlp_out")]
    ways.append([taken(decoder, there, 0, "resid_pre"), *written])
    ways.append([taken(decoder, there, 0, "resid_pre"), *(taken(decoder, there, layer, "z") for layer in LAYERS)])
    inside = [taken(decoder, there, layer, site) for layer in LAYERS for site in ("q", "k", "v")]
    ways.append([taken(decoder, there, 0, "resid_pre"), *inside])
    moved = decoder.engine.intervene(base, ways)
    assert agree(moved, there.final[:, -1].expand_as(moved))
    if not decoder.parallel:
        moved = decoder.engine.intervene(base, [[taken(decoder, there, layer, "resid_mid")] for layer in LAYERS])
        assert agree(moved, there.final[:, -1].expand_as(moved))


@torch.inference_mode()
def test_an_edit_without_a_head_has_one_key_and_value_a_group(decoder):
    engine, base = decoder.engine, decoder.engine.run(CORRUPTED)
    for site in ("k", "v"):
        edits = [[Edit(0, site, torch.zeros(3, 9, 4, engine.d_head))]]
        if engine.n_kv_heads == 4:
            assert agree(engine.intervene(base, edits), plainly(decoder, CORRUPTED, edits))
            continue
        with pytest.raises(ValueError, match=r"4 heads share . keys and values: set as many, or name the head"):
            engine.intervene(base, edits)
