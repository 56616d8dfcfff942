"""`random:NAME` and `shuffled:NAME` of models that are not GPT-2s."""

import json

import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.find import find_folder
from tests.support.other_architectures import load, save_tiny_decoder

TOKENS = torch.arange(5, 29).view(2, 12)


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3", "Gemma2"])
def test_a_shuffled_model_with_shared_keys_computes_the_same_with_other_heads(tmp_path, architecture):
    folder = save_tiny_decoder(tmp_path / "model", architecture)
    before, after = load(folder, "raw"), load(find_folder(f"shuffled:{folder}").path, "raw")
    assert torch.allclose(before.last_logits(TOKENS), after.last_logits(TOKENS), atol=1e-4)
    runs = before.run(TOKENS), after.run(TOKENS)
    for layer in range(before.transformer.n_layers):
        first, second = (
            subject.transformer.attention(layer, run.resid[layer]).pattern
            for subject, run in zip((before, after), runs, strict=True)
        )
        for head in range(before.transformer.n_heads):
            apart = (first[:, [head]] - second).abs().amax((0, 2, 3))
            assert apart[head] > 1e-3, f"{Head(layer, head)} is where it was"
            assert apart.min() < 1e-4, f"{Head(layer, head)} is nowhere any more"


def test_one_group_of_keys_cannot_be_shuffled(tmp_path):
    folder = save_tiny_decoder(tmp_path / "model", "Mistral")  # it has one head of keys and values
    with pytest.raises(SubjectError, match="one head a layer"):
        find_folder(f"shuffled:{folder}")


@pytest.mark.parametrize("architecture", ["Llama", "NeoX"])
def test_a_random_copy_has_the_shape_of_the_model_and_none_of_its_weights(tmp_path, architecture):
    folder = save_tiny_decoder(tmp_path / "model", architecture)
    random = find_folder(f"random:{folder}")
    assert json.loads((random.path / "config.json").read_text()) == json.loads((folder / "config.json").read_text())
    before, after = load(folder, "raw"), load(random.path, "raw")
    logits = before.last_logits(TOKENS), after.last_logits(TOKENS)
    assert logits[0].shape == logits[1].shape
    assert abs(float(torch.corrcoef(torch.stack([each.flatten() for each in logits]))[0, 1])) < 0.2
    assert 0.1 < float(after.last_logits(TOKENS).std()) < 10
    assert find_folder(f"random:{folder}").sha256() == random.sha256()
    patterns = after.transformer.attention(0, after.run(TOKENS).resid[0]).pattern
    assert (patterns[:, 0] - patterns[:, 1]).abs().max() > 0.01, "no two heads are the same"


def test_a_random_copy_of_what_is_not_there_is_refused():
    with pytest.raises(SubjectError, match="there is no folder"):
        find_folder("random:./nowhere")
