"""The logit lens of one prompt: against Hugging Face's own hidden states, and against the chapter on facts."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

import circuit_claims as cc
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.prompts.published_facts import OXYGEN as PUBLISHED
from tests.experiments.prompts import OXYGEN, STORE, tokens_of
from tests.support.fact_tasks import task


@pytest.mark.parametrize("bos", [False, True], ids=["no BOS", "BOS"])
def test_every_number_is_that_of_the_models_own_head_on_its_own_hidden_states(mini, bos):
    found = cc.logit_lens(mini, OXYGEN, " oxygen", prepend_bos=bos, top=4, all_positions=True)
    theirs = GPT2LMHeadModel.from_pretrained(EMBEDDED["mini"]).eval()
    tokens, target = tokens_of(mini, OXYGEN), int(tokens_of(mini, " oxygen")[0, 0])
    if bos:
        tokens = torch.cat([torch.tensor([[mini.tokenizer.bos_token_id]]), tokens], dim=1)
    assert found.provenance.prompts["prompt"].ids == tuple(tokens[0].tolist())
    with torch.no_grad():
        *streams, final = theirs(tokens, output_hidden_states=True).hidden_states
        logits = [theirs.lm_head(theirs.transformer.ln_f(stream))[0] for stream in streams] + [theirs.lm_head(final)[0]]
    assert len(logits) == len(found.depths) == 5
    for depth, here in enumerate(logits):
        ps = here.softmax(-1)
        assert found.probability[depth] == pytest.approx(float(ps[-1, target]), abs=1e-5)
        order = ps[-1].argsort(descending=True).tolist()
        assert found.rank[depth] == order.index(target) + 1
        assert [token.id for token in found.top_tokens[depth]] == order[:4]
        assert found.top_probabilities[depth] == pytest.approx(ps[-1][order[:4]].numpy(), abs=1e-5)
        assert [token.id for token in found.everywhere.top_tokens[depth]] == ps.argmax(-1).tolist()
        assert found.everywhere.top_probabilities[depth] == pytest.approx(ps.max(-1).values.numpy(), abs=1e-5)
        assert found.everywhere.target_probability[depth] == pytest.approx(ps[:, target].numpy(), abs=1e-5)


@pytest.mark.parametrize("bos", [False, True], ids=["no BOS", "BOS"])
def test_the_crossover_layer_is_that_of_the_chapter_on_facts(mini, bos):
    theirs = task(mini).published([PUBLISHED], prepend_bos=bos)
    layer = cc.logit_lens(mini, PUBLISHED[0], " " + PUBLISHED[1], prepend_bos=bos).crossover_layer
    assert layer == theirs.crossover_layer().take(1).estimate


def test_a_target_that_never_comes_on_top_has_no_crossover_layer(mini):
    found = cc.logit_lens(mini, OXYGEN, " sand")
    assert found.crossover_layer is None and found.rank[-1] > 1
    assert "after none of the 4 layers" in found.sentence and found.to_json()["result"]["crossover_layer"] is None


def test_what_the_embeddings_would_answer_does_not_count(mini):
    found = cc.logit_lens(mini, OXYGEN, " oxygen")
    first = replace(found, on_top=np.array([True, False, False, True, True]))
    assert first.crossover_layer == 2


def test_without_a_target_the_models_own_answer_is_followed(mini):
    found = cc.logit_lens(mini, STORE)
    assert found.target.text == mini.top_tokens(STORE, prepend_bos=False, k=1)[0][0]
    assert found.rank[-1] == 1 and found.crossover_layer is not None
    assert found.to_json()["result"]["target_is"] == "the model's own answer"


def test_more_tokens_than_are_listed_are_refused(mini):
    with pytest.raises(ExperimentError, match="top must be from 1 to 20"):
        cc.logit_lens(mini, OXYGEN, top=0)


def test_a_notebook_shows_the_sentence_and_the_picture(mini):
    shown = cc.logit_lens(mini, OXYGEN, " oxygen", all_positions=True)._repr_html_()
    assert "&#x27;oxygen&#x27; is the likeliest token" in shown and "data:image/png;base64," in shown


def test_the_result_is_json(mini):
    found = json.loads(json.dumps(cc.logit_lens(mini, OXYGEN, " oxygen", all_positions=True).to_json(), allow_nan=False))
    assert len(found["result"]["everywhere"]["target_probability"]) == len(found["result"]["depths"]) == 5
