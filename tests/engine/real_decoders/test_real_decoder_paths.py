"""Engines on every family of decoders: traces, and path patching against its passes made by plain hooks, one by one."""

import pytest
import torch

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.paths import Part, Receivers
from circuit_claims.heads import Head
from tests.support.decoders.engines import ALL, CLEAN, CORRUPTED, DECODERS, EFFECT, END, TWO, Real, agree, off, real
from tests.support.decoders.plain import plain_parts, plain_paths, some

LAYERS = range(3)
SEVERAL = (Head(2, 3), Head(1, 0), Head(2, 2))
ONE = (Head(2, 1),)
SENDERS = [
    [Head(0, 0)],
    [Head(0, 3)],
    [Head(1, 1)],
    [Head(0, 1), Head(0, 2)],
    [Head(1, 2), Head(0, 3)],
    [Head(2, 2), Head(0, 0), Head(1, 1)],
    [Head(2, 0)],
]
#: Receivers, positions and MLPs.
PATHS = [
    (None, END, "recomputed"),
    (None, TWO, "frozen"),
    (None, ALL, "recomputed"),
    (Receivers(SEVERAL, "q"), TWO, "recomputed"),
    (Receivers(ONE, "q"), END, "frozen"),
    (Receivers(SEVERAL, "k"), ALL, "recomputed"),
    (Receivers(ONE, "k"), TWO, "frozen"),
    (Receivers(SEVERAL, "v"), ALL, "frozen"),
    (Receivers(ONE, "v"), ALL, "recomputed"),
]
NAMES = [f"{r or 'logits'} at {p.shape[1]} with MLPs {m}".replace(",", "") for r, p, m in PATHS]


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Real:
    return real(request.param)


def knock_outs(decoder: Real) -> list[Edit]:
    """Heads of all layers set to something of their own: at all positions, and at some."""
    generator, width = torch.Generator().manual_seed(7), decoder.plain.d_head

    def value(k: int, *heads: int) -> torch.Tensor:
        return torch.randn(3, k, *heads, width, generator=generator)

    keep = torch.rand(3, 9, 4, generator=generator) < 0.5
    return [
        Edit(0, "z", value(9), 2),
        Edit(1, "z", value(2), 3, TWO),
        Edit(1, "z", value(9, 4), keep=keep),
        Edit(2, "z", value(1), 1, END),
    ]


@torch.inference_mode()
def test_a_trace_is_the_run_at_some_positions(decoder):
    run = decoder.engine.run(CLEAN, keep=True)
    for knocked_out in ([], knock_outs(decoder)):
        there = decoder.plain(CLEAN, knocked_out)
        for positions in (END, TWO, ALL):
            with decoder.may_refuse("trace"):
                trace = decoder.engine.trace(run, positions, knocked_out)
                for layer in LAYERS:
                    assert agree(trace.pre[layer], some(there.at[layer, "resid_pre"], positions))
                    assert agree(trace.mid[layer], some(there.at[layer, "resid_mid"], positions))
                    assert agree(trace.z[layer], some(there.at[layer, "z"], positions))
                assert agree(trace.pre[-1], some(there.final, positions))
                assert torch.equal(trace.positions, positions)


@torch.inference_mode()
def test_what_is_written_makes_up_the_final_stream(decoder):
    run = decoder.engine.run(CLEAN)
    for knocked_out, what in (([], ""), (knock_outs(decoder), "trace")):
        there = decoder.plain(CLEAN, knocked_out)
        for positions in (END, TWO):
            with decoder.may_refuse(what):
                written = decoder.engine.written_at(run, positions, knocked_out)
                assert agree(written.embedding, some(there.at[0, "resid_pre"], positions))
                for layer in LAYERS:
                    assert agree(written.attn_out[layer], some(there.at[layer, "attn_out"], positions))
                    assert agree(written.mlp_out[layer], some(there.at[layer, "mlp_out"], positions))
                    assert agree(written.z[layer], some(there.at[layer, "z"], positions))
                assert agree(written.final, some(there.final, positions))
                whole = sum([*written.attn_out, *written.mlp_out], written.embedding)
                assert agree(whole, written.final)


@pytest.mark.parametrize(("receivers", "positions", "mlps"), PATHS, ids=NAMES)
@torch.inference_mode()
def test_path_patching_agrees_with_its_four_passes(decoder, receivers, positions, mlps):
    base, new = decoder.engine.run(CORRUPTED), decoder.engine.run(CLEAN)
    ours = decoder.engine.path_patch(base, new, SENDERS, receivers, positions, mlps=mlps)
    passes = plain_paths(decoder.plain, CORRUPTED, CLEAN, SENDERS, receivers, positions, mlps)
    theirs = torch.stack([each.final[:, -1] for each in passes])
    assert agree(ours, theirs)
    untouched = decoder.plain(CORRUPTED).final[:, -1]
    assert max(off(other, untouched) for other in theirs) > EFFECT / 10, "the twin does nothing"
    changed = off(theirs[-1], untouched)
    assert changed > EFFECT if receivers is None else changed < 1e-6, "a sender of the last layer reaches the logits alone"


@torch.inference_mode()
def test_path_patching_of_nothing_changes_nothing(decoder):
    base, new = decoder.engine.run(CORRUPTED), decoder.engine.run(CLEAN)
    for receivers in (None, Receivers(SEVERAL, "k")):
        same = decoder.engine.path_patch(base, base, SENDERS, receivers, ALL)
        nobody = decoder.engine.path_patch(base, new, [[], [Head(2, 0)], []], receivers, ALL)[[0, 2]]
        for unchanged in (same, nobody):
            assert agree(unchanged, base.resid[-1][:, -1].expand_as(unchanged))


@torch.inference_mode()
def test_path_patching_within_a_cap_of_memory(decoder):
    base, new = decoder.engine.run(CORRUPTED), decoder.engine.run(CLEAN)
    for receivers in (None, Receivers(SEVERAL, "v")):
        whole = decoder.engine.path_patch(base, new, SENDERS, receivers, TWO)
        for memory in (1, 200_000):
            assert agree(decoder.engine.path_patch(base, new, SENDERS, receivers, TWO, memory=memory), whole, 2e-6)


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@torch.inference_mode()
def test_path_patching_with_heads_knocked_out(decoder, mlps):
    base, new, edits = decoder.engine.run(CORRUPTED), decoder.engine.run(CLEAN), knock_outs(decoder)
    senders = [*SENDERS, [Head(0, 2)], []]
    ours = decoder.engine.path_patch(base, new, senders, None, TWO, mlps=mlps, knocked_out=edits)
    passes = plain_paths(decoder.plain, CORRUPTED, CLEAN, senders, None, TWO, mlps, edits)
    theirs = torch.stack([each.final[:, -1] for each in passes])
    assert agree(ours, theirs)
    assert off(theirs[0], theirs[-1]) > EFFECT and off(theirs[-1], decoder.plain(CORRUPTED).final[:, -1]) > EFFECT
    assert agree(theirs[-2], theirs[-1], 1e-6), "a sender that is knocked out itself sends nothing"


@torch.inference_mode()
def test_inputs_of_receivers_are_those_that_path_patching_sets(decoder):
    base, new = decoder.engine.run(CORRUPTED), decoder.engine.run(CLEAN)
    for which in ("q", "k", "v"):
        receivers = Receivers((*SEVERAL, Head(0, 1)), which)
        edits = decoder.engine.receiver_inputs(base, new, [Head(0, 1), Head(1, 3)], receivers, TWO)
        assert {(edit.layer, edit.head, edit.site) for edit in edits} == {(*head, which) for head in SEVERAL}
        (theirs,) = plain_paths(decoder.plain, CORRUPTED, CLEAN, [[Head(0, 1), Head(1, 3)]], receivers, TWO)
        assert agree(decoder.plain(CORRUPTED, edits).final[:, -1], theirs.final[:, -1])
        assert decoder.engine.receiver_inputs(base, new, [Head(2, 0)], receivers, TWO) == []


PARTS = [
    [Part(0, 1)],
    [Part(1)],
    [Part(0, 2), Part(0), Part(2, 3)],
    [Part(0, head) for head in range(4)],
    [],
]


@pytest.mark.parametrize("through", [(), (1,), (0, 1, 2)], ids=["no MLP", "one MLP", "all MLPs"])
@torch.inference_mode()
def test_path_patching_of_parts_at_end(decoder, through):
    base, new = decoder.engine.run(CORRUPTED), decoder.engine.run(CLEAN)
    theirs = torch.stack([plain_parts(decoder.plain, CORRUPTED, CLEAN, parts, through).final[:, -1] for parts in PARTS])
    with decoder.may_refuse("path_patch_parts"):
        assert agree(decoder.engine.path_patch_parts(base, new, PARTS, through), theirs)
    assert off(theirs[0], theirs[-1]) > EFFECT and agree(theirs[-1], base.resid[-1][:, -1])
