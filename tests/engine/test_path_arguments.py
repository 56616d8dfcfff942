"""What path patching cannot mean is refused, by both engines alike."""

import pytest
import torch

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.protocol import Engine
from circuit_claims.heads import Head
from tests.engine.test_path_patching import ALL, EVERY_HEAD, ONE, ONLY_END, SCATTERED, knock_outs


@pytest.fixture(params=[Transformer, HookedDecoder])
def engine(request: pytest.FixtureRequest, tiny) -> Engine:
    """Each engine, over one model."""
    return request.param(tiny[0])


def test_a_direct_path_to_the_logits_must_start_at_end(engine, pair):
    base, new = (engine.run(tokens) for tokens in pair)
    for elsewhere in (SCATTERED, ALL[:, :-1], ALL.flip(1)):
        with pytest.raises(ValueError, match="starts at END"):
            engine.path_patch(base, new, EVERY_HEAD, None, elsewhere)


def test_receivers_have_queries_keys_and_values():
    with pytest.raises(ValueError, match=r"unknown input 'z' of the receivers: use q, k or v"):
        Receivers((Head(1, 0),), "z")  # type: ignore[arg-type]
    assert str(Receivers((Head(1, 0), Head(2, 3)), "k")) == "keys of L1H0, L2H3"


def test_knock_outs_go_with_the_direct_path_to_the_logits_alone(engine, pair):
    base, new = (engine.run(tokens) for tokens in pair)
    with pytest.raises(ValueError, match="goes to the logits alone"):
        engine.path_patch(base, new, EVERY_HEAD, Receivers(ONE, "q"), ONLY_END, knocked_out=knock_outs(base.tokens))


def test_knock_outs_are_edits_of_z(engine, pair):
    """Anything else would be written into z without a word."""
    base, new = (engine.run(tokens) for tokens in pair)
    queries = Edit(0, "q", torch.zeros(5, 1, 8), 1, ONLY_END)
    with pytest.raises(ValueError, match="edits of z"):
        engine.path_patch(base, new, EVERY_HEAD, None, ONLY_END, knocked_out=[queries])


def test_mlps_are_recomputed_or_frozen_and_nothing_else(engine, pair):
    base, new = (engine.run(tokens) for tokens in pair)
    with pytest.raises(ValueError, match="unknown mlps 'freeze'"):
        engine.path_patch(base, new, EVERY_HEAD, None, ONLY_END, mlps="freeze")  # type: ignore[arg-type]


def test_a_pattern_with_other_keys_is_one_heads(engine, pair):
    base = engine.run(pair[0])
    with pytest.raises(ValueError, match="this edit of k in layer 1 sets all heads: name the one that is meant"):
        engine.pattern_with_keys(base, Edit(1, "k", engine.attention(1, base.resid[1]).k))
