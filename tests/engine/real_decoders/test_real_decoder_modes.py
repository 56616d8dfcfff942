"""Processed weights: another stream for some families, and the same effects of patches from one prompt into another."""

import pytest
import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.protocol import Engine
from circuit_claims.heads import Head
from tests.support.decoders.engines import ALL, CLEAN, CORRUPTED, END, agree, make_engine, real
from tests.support.decoders.families import COMPUTED, POST_NORMED, tiny

#: TransformerLens's processing of these asks a module for a weight that adapters have elsewhere; subjects of them are merged.
NOT_PROCESSED = ("llama with lora",)
ANSWERS = torch.tensor([[7, 11], [30, 42], [64, 65]])
HEADS = [Head(layer, head) for layer in (0, 2) for head in range(4)]


@torch.inference_mode()
def effects(engine: Engine) -> torch.Tensor:
    """Logit differences under patches of heads' outputs, values and keys, of the stream, and along paths to the logits."""
    source, base = engine.run(CLEAN), engine.run(CORRUPTED)
    edits = []
    for layer, head in HEADS:
        inside = engine.attention(layer, source.resid[layer])
        shared = head // (engine.n_heads // engine.n_kv_heads)
        edits += [[Edit(layer, "z", inside.z[:, :, head], head)], [Edit(layer, "z", inside.z[:, 8:, head], head, END)]]
        edits += [[Edit(layer, "v", inside.v[:, :, shared], head)], [Edit(layer, "k", inside.k[:, :, shared], head)]]
    edits += [[Edit(layer, "resid_pre", source.resid[layer])] for layer in range(engine.n_layers)]
    streams = torch.cat([engine.intervene(base, edits), engine.path_patch(base, source, [HEADS[:1], HEADS[4:6]], None, END)])
    logits = engine.answer_logits(streams, ANSWERS)
    return logits[..., 0] - logits[..., 1]


@pytest.mark.parametrize("family", [family for family in COMPUTED if family not in NOT_PROCESSED])
def test_patches_have_the_effects_that_they_have_on_raw_weights(family):
    """What processing adds to both prompts alike is in no difference between them."""
    raw, processed = real(family).engine, make_engine(tiny(family), processed=True)
    assert isinstance(processed, Transformer if family == "gpt2" else ModuleDecoder)
    wanted = effects(raw)
    assert agree(effects(processed), wanted, 2e-5)
    assert float((wanted - wanted[:1]).abs().max()) > 1e-2
    final = raw.run(CLEAN).resid[-1]
    logits = processed.logits(processed.run(CLEAN).resid[-1])
    assert agree(logits.log_softmax(-1), raw.logits(final).log_softmax(-1), 2e-5)


@pytest.mark.parametrize("family", [f for f in COMPUTED if f not in (*NOT_PROCESSED, *POST_NORMED)])
def test_what_is_written_on_processed_weights_makes_up_their_stream(family):
    engine = make_engine(tiny(family), processed=True)
    run = engine.run(CLEAN)
    written = engine.written_at(run, ALL)
    whole = written.embedding + torch.stack(list(written.attn_out)).sum(0) + torch.stack(list(written.mlp_out)).sum(0)
    assert agree(whole, run.resid[-1])
