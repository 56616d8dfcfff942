"""Published texts: losses and the head detector's scores, against the bridge and TransformerLens's own detector."""

from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens.head_detector import (
    detect_head,
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)

from circuit_claims.heads import Head
from circuit_claims.prompts.published_texts import ABSTRACT, DESCRIPTION, DETECTOR
from circuit_claims.tasks.induction.published_text import PublishedText, detection_pattern
from circuit_claims.untested import Untested

#: In mini's words, with some of them twice, and twice in a row.
TEXT = "When Mary and John went to the store, John and Mary gave a drink to the the store"
THEIRS = {
    "previous token": get_previous_token_head_detection_pattern,
    "duplicate token": get_duplicate_token_head_detection_pattern,
    "induction": get_induction_head_detection_pattern,
}


@pytest.fixture(scope="module", params=[True, False], ids=["BOS", "no BOS"])
def text(mini, request) -> PublishedText:
    return PublishedText(mini, TEXT, prepend_bos=request.param)


def value(measurement) -> float:
    taken = measurement.take(1)
    assert taken.exact and taken.n == 1
    return taken.estimate


def plain_loss(text: PublishedText, hooks=()) -> float:
    with torch.inference_mode():
        logits = text.subject.bridge.run_with_hooks(text.tokens, fwd_hooks=list(hooks), prepend_bos=False)[0].double()
    ids = text.tokens[0]
    losses = [float(-logits[i - 1].log_softmax(-1)[ids[i]]) for i in range(1, len(ids))]
    return sum(losses) / len(losses)


def test_the_loss_is_the_bridges(text):
    assert value(text.loss()) == pytest.approx(plain_loss(text), abs=1e-4)


@pytest.mark.parametrize("head", [Head(0, 4), Head(2, 3)])
def test_values_at_zero_are_a_hook_on_v(text, head):
    def hook(v, hook):
        v = v.clone()
        v[:, :, head.head] = 0
        return v

    found = value(text.loss_without_value(head))
    assert found == pytest.approx(plain_loss(text, [(f"blocks.{head.layer}.attn.hook_v", hook)]), abs=1e-4)
    assert abs(found - value(text.loss())) > 1e-3


@pytest.mark.parametrize("current", [False, True])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("kind", THEIRS)
def test_scores_are_those_of_transformer_lens(mini, kind, bos, current):
    """Its detector puts BOS before a text."""
    ours = PublishedText(mini, TEXT).detected(kind, exclude_bos=bos, exclude_current=current).take(1)
    options = {"exclude_bos": bos, "exclude_current_token": current}
    name: Any = f"{kind.replace(' ', '_')}_head"  # one of its three names
    with torch.inference_mode():
        theirs = detect_head(mini.bridge, TEXT, name, **options)
    assert ours.exact and ours.estimate == pytest.approx(theirs.numpy(), abs=1e-5)
    assert np.ptp(ours.estimate) > 0.02
    assert ("BOS" in ours.quantity, "itself" in ours.quantity) == (bos, current)


@pytest.mark.parametrize("kind", THEIRS)
def test_patterns_are_those_of_transformer_lens(kind):
    generator = torch.Generator().manual_seed(0)
    for high in (2, 4, 50):
        tokens = torch.randint(0, high, (17,), generator=generator)
        assert torch.equal(detection_pattern(tokens, kind), THEIRS[kind](tokens[None]).float())


def test_an_unknown_kind_is_refused(text):
    with pytest.raises(ValueError, match="unknown kind 'next token'"):
        text.detected("next token")


def test_a_text_that_the_tokenizer_cannot_carry_is_untested(mini):
    with pytest.raises(Untested, match="does not give it back unchanged"):
        PublishedText(mini, ABSTRACT).loss().take(1)


@pytest.mark.parametrize(("text", "tokens"), [(ABSTRACT, 33), (DESCRIPTION, None), (DETECTOR, None)])
def test_the_texts_are_whole_for_gpt2s_tokenizer(gpt2_folder, text, tokens):
    """The demos print how many tokens the abstract has, with BOS."""
    from transformers import GPT2TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]  # made at import, by a name

    tokenizer = GPT2TokenizerFast(str(gpt2_folder / "vocab.json"), str(gpt2_folder / "merges.txt"))
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    if tokens:
        assert 1 + len(ids) == tokens
