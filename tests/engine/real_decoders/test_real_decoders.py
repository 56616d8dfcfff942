"""Engines on every family of decoders: runs and single steps, against whole passes of transformers' own model."""

import pytest
import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import Edit
from tests.support.decoders.engines import (
    ALL,
    CLEAN,
    CORRUPTED,
    SCATTERED,
    TWO,
    Real,
    agree,
    make_engine,
    off,
    plain,
    real,
    spread,
)
from tests.support.decoders.families import COMPUTED, FAMILIES, NOT_WRAPPED, save_tiny, tiny
from tests.support.decoders.plain import some

HEADS = range(4)


@pytest.fixture(params=COMPUTED)
def decoder(request: pytest.FixtureRequest) -> Real:
    return real(request.param)


def some_stream(decoder: Real, *shape: int, seed: int = 0) -> torch.Tensor:
    """Streams that no tokens give, of the size of real ones."""
    size = float(decoder.plain(CLEAN).at[1, "resid_pre"].std())
    return torch.randn(*shape, decoder.engine.d_model, generator=torch.Generator().manual_seed(seed)) * size


@pytest.mark.parametrize("family", NOT_WRAPPED)
def test_a_family_that_cannot_be_wrapped_has_no_engine(family):
    with pytest.raises(RuntimeError, match=NOT_WRAPPED[family]):
        make_engine(tiny(family))


@pytest.mark.parametrize("family", COMPUTED)
def test_every_other_family_runs_on_its_own_modules(family):
    assert isinstance(real(family).engine, Transformer if family == "gpt2" else ModuleDecoder)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_twin_is_the_model_and_its_parts_make_up_the_stream(family):
    """What the twin says of a pass fits together, in a model that attends to more than one token and less than all."""
    twin = plain(family)
    found, layers = twin(CLEAN), range(len(twin.layers))
    assert torch.equal(found.logits, tiny(family)(input_ids=CLEAN, use_cache=False).logits)
    for layer in layers:
        pre, attention, mlp, post = (found.at[layer, site] for site in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        assert agree(pre + attention + mlp, post)
        values = found.at[layer, "v"][:, :, [twin.group_of(head) for head in HEADS]]
        pattern = found.at[layer, "pattern"]
        assert agree((pattern @ values.transpose(1, 2)).transpose(1, 2), found.at[layer, "z"])
        assert 0.2 < pattern.amax(-1)[..., 3:].mean() < 0.95
        assert min(spread(attention), spread(mlp)) > 0.1 * spread(pre)
    logits = found.logits - found.logits.mean(-1, keepdim=True)
    assert logits.std() > 0.2


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "llama with lora"])
@torch.no_grad()
def test_a_family_comes_back_from_its_folder(family, tmp_path):
    """With a tokenizer whose tokens it has embeddings of."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = save_tiny(family, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
    size = len(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    assert loaded.config.vocab_size == size
    theirs = tiny(family, vocabulary=size)(input_ids=CLEAN, use_cache=False).logits
    assert torch.equal(loaded(input_ids=CLEAN, use_cache=False).logits, theirs)


@torch.inference_mode()
def test_it_says_of_what_shape_it_is(decoder):
    engine, twin, config = decoder.engine, decoder.plain, decoder.plain.model.config
    assert (engine.n_layers, engine.n_heads, engine.n_kv_heads) == (3, twin.n_heads, twin.n_kv_heads)
    assert (engine.d_head, engine.d_model, engine.d_vocab) == (twin.d_head, config.hidden_size, config.vocab_size)
    assert engine.W_E.shape == (engine.d_vocab, engine.d_model) and engine.W_U.shape == (engine.d_model, engine.d_vocab)
    assert torch.equal(engine.W_E, twin.model.get_input_embeddings().weight)


@torch.inference_mode()
def test_a_run_is_the_models_own(decoder):
    engine = decoder.engine
    for tokens in (CLEAN, CORRUPTED[:1, :5]):
        run, there = engine.run(tokens), decoder.plain(tokens)
        kept = engine.run(tokens, keep=True)
        for layer in range(3):
            assert agree(run.resid[layer], there.at[layer, "resid_pre"])
        assert agree(run.resid[-1], there.final) and torch.equal(run.tokens, tokens)
        assert agree(kept.resid, run.resid)
        assert agree(engine.logits(run.resid[-1]), there.logits)
        assert agree(engine.logits(run.resid[-1][:, -1]), there.logits[:, -1])


@torch.inference_mode()
def test_answer_logits_are_those_of_all_tokens(decoder):
    engine, there = decoder.engine, decoder.plain(CLEAN)
    answers = torch.tensor([[3, 9, 3], [210, 0, 77], [100, 100, 5]])
    theirs = there.logits[:, -1].gather(1, answers)
    assert agree(engine.answer_logits(there.final[:, -1], answers), theirs)
    final = torch.stack([there.final[:, -1], there.final[:, 3]])
    ours = engine.answer_logits(final, answers)
    assert agree(ours, torch.stack([theirs, there.logits[:, 3].gather(1, answers)]))


@torch.inference_mode()
def test_a_run_may_begin_with_another_stream(decoder):
    embedded = some_stream(decoder, 3, 9)
    run, there = decoder.engine.run(CLEAN, embedded=embedded), decoder.plain.from_layer(0, embedded)
    assert agree(run.resid[0], embedded) and agree(run.resid[1], there.at[1, "resid_pre"])
    assert agree(run.resid[-1], there.final)


@torch.inference_mode()
def test_layers_may_be_left_out_at_the_end_or_the_beginning(decoder):
    engine, there = decoder.engine, decoder.plain(CLEAN)
    for layer in range(3):
        assert agree(engine.stop_at_layer(CLEAN, layer), there.at[layer, "resid_pre"])
        stream = some_stream(decoder, 3, 9, seed=layer)
        before = stream.clone()
        assert agree(engine.start_at_layer(stream, layer), decoder.plain.from_layer(layer, stream).final)
        assert torch.equal(stream, before), "the caller's own is not to be changed"
    assert agree(engine.stop_at_layer(CLEAN, 3), there.final)
    assert agree(engine.start_at_layer(there.final, 3), there.final)


@torch.inference_mode()
def test_the_inside_of_a_layer_is_the_models_own(decoder):
    for layer in range(3):
        stream = some_stream(decoder, 2, 9, seed=layer)
        inside, there = decoder.engine.attention(layer, stream), decoder.plain.from_layer(layer, stream)
        for part, site in {"q": "q", "k": "k", "v": "v", "pattern": "pattern", "z": "z", "out": "attn_out"}.items():
            assert agree(getattr(inside, part), there.at[layer, site]), (layer, part)


@torch.inference_mode()
def test_inputs_of_single_heads(decoder):
    """At all positions at once, in rows that know nothing of prompts and positions."""
    for layer in range(3):
        stream = some_stream(decoder, 2, 5, seed=layer)
        there = decoder.plain.from_layer(layer, stream)
        for head in HEADS:
            for which in ("q", "k", "v"):
                theirs = there.at[layer, which][:, :, decoder.plain.group_of(head, which)]
                assert agree(decoder.engine.head_input(layer, stream, head, which), theirs)
                assert agree(decoder.engine.head_input(layer, stream[1, 2], head, which), theirs[1, 2], 2e-5)


@torch.inference_mode()
def test_outputs_of_heads_at_some_positions(decoder):
    run, there = decoder.engine.run(CLEAN, keep=True), decoder.plain(CLEAN)
    for layer in range(3):
        for positions in (TWO, SCATTERED, ALL):
            theirs = some(there.at[layer, "z"], positions)
            assert agree(decoder.engine.head_outputs_at(run, layer, positions), theirs)


@torch.inference_mode()
def test_what_heads_write_adds_up(decoder):
    there = decoder.plain(CLEAN)
    for layer in range(3):
        z = there.at[layer, "z"]
        nothing = decoder.plain(CLEAN, [Edit(layer, "z", 0 * z)]).at[layer, "attn_out"]
        with decoder.may_refuse("head_out"):
            written = [decoder.engine.head_out(layer, z[:, :, head], head) for head in HEADS]
            assert agree(sum(written, nothing), there.at[layer, "attn_out"])
            for head in HEADS:
                alone = torch.zeros_like(z)
                alone[:, :, head] = z[:, :, head]
                theirs = decoder.plain(CLEAN, [Edit(layer, "z", alone)]).at[layer, "attn_out"] - nothing
                assert agree(written[head], theirs)


@torch.inference_mode()
def test_what_the_mlp_adds_to_the_stream(decoder):
    for layer in range(3):
        mid = some_stream(decoder, 2, 5, seed=layer)
        tokens = torch.ones(2, 5, dtype=torch.long)
        with decoder.may_refuse("mlp_out"):
            ours = decoder.engine.mlp_out(layer, mid)
            assert not decoder.parallel, "there is no stream between the two"
            theirs = decoder.plain(tokens, [Edit(layer, "resid_mid", mid)]).at[layer, "mlp_out"]
            assert agree(ours, theirs)
            assert agree(decoder.engine.mlp_out(layer, mid[1, 3]), theirs[1, 3], 2e-5)
            assert agree(decoder.engine.mlp_out(layer, mid[None]), theirs[None])


@torch.inference_mode()
def test_attention_of_a_head_with_other_keys(decoder):
    base, there, other = decoder.engine.run(CORRUPTED), decoder.plain(CORRUPTED), decoder.plain(CLEAN)
    for layer, head, positions in ((0, 1, None), (2, 3, SCATTERED), (1, 2, TWO)):
        keys = some(other.at[layer, "k"][:, :, decoder.plain.group_of(head)], positions)
        edit = Edit(layer, "k", keys, head, positions)
        found = decoder.plain(CORRUPTED, [edit])
        theirs = found.own_pattern.get((layer, head), found.at[layer, "pattern"][:, head])
        with decoder.may_refuse("pattern_with_keys"):
            assert agree(decoder.engine.pattern_with_keys(base, edit), theirs)
        assert off(there.at[layer, "pattern"][:, head], theirs) > 1e-3


@torch.inference_mode()
def test_parts_of_the_stream_share_out_the_final_norm(decoder):
    engine, model, found = decoder.engine, decoder.plain.model, []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda module, args: found.append(args[0]))
    final = decoder.plain(CLEAN).final
    handle.remove()
    part = some_stream(decoder, 3, 9)
    with decoder.may_refuse("frozen_norm"):
        shares = engine.frozen_norm(part, final) + engine.frozen_norm(final - part, final)
        assert agree(shares, engine.frozen_norm(final, final))
        bias = (found[0] - shares).flatten(0, 1)
        assert float((bias - bias.mean(0)).abs().max()) < 1e-5 * spread(found[0])
        same = engine.frozen_norm(part, None)
        ratio = same / engine.frozen_norm(part, final)  # the scale: one number for every stream
        assert agree(ratio, ratio.median(-1, keepdim=True).values.expand_as(ratio), 1e-3)
        assert agree(engine.direct_logits(part + final), engine.direct_logits(part) + engine.direct_logits(final))


@torch.inference_mode()
def test_what_tokens_put_into_the_stream(decoder):
    tokens = torch.tensor([[7], [60], [123]])
    theirs = decoder.plain(tokens).at[0, "resid_pre"][:, 0]
    with decoder.may_refuse("token_embeddings"):
        ours = decoder.engine.token_embeddings(tokens[:, 0])
        assert agree(ours - ours[:1], theirs - theirs[:1])
