"""What is measured is the model that transformers loads, or the model is refused with one sentence."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures import faithful_boot
from fixtures.faithful_boot import ROUNDING, Reference, boot, load_model, random_tokens
from fixtures.interventions.transformer import Transformer
from fixtures.ioi import IOI
from fixtures.model_folder import SubjectError
from fixtures.prompts.dataset import Population
from fixtures.subjects import Settings, Subject, prepare
from tests.tiny_configurations import CONFIGURATIONS, random_model, save_with_tokenizer, tiny_config
from tests.tiny_models import save_tiny_card

ROOT = Path(__file__).parents[1]
PROMPTS = 6
#: What is refused, in which mode, and a part of the reason; all others have transformers' numbers.
REFUSED = {
    ("OPT, projected", "processed"): "the two part in the embedding",
    ("OPT, norm after", "raw"): "cannot wrap",
    ("OPT, norm after", "processed"): "cannot wrap",
    ("Bloom, residual after the norm", "processed"): "the two part in layer 0",
    ("Cohere", "raw"): "the two part in layer 0",
    ("Cohere", "processed"): "the two part in layer 0",
    ("Cohere, normed queries", "raw"): "cannot wrap",
    ("Cohere, normed queries", "processed"): "cannot wrap",
    ("Cohere 2", "raw"): "the two part in layer 0",
    ("Cohere 2", "processed"): "the two part in layer 0",
    ("Falcon, new decoder", "raw"): "cannot wrap",
    ("Falcon, new decoder", "processed"): "cannot wrap",
    ("Falcon, ALiBi", "raw"): "with eager attention",
    ("Falcon, ALiBi", "processed"): "with eager attention",
    ("GPT-BigCode, many keys", "raw"): "multi_query",
    ("GPT-BigCode, many keys", "processed"): "multi_query",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a configuration's model, written once, and the logit difference on six prompts as transformers computes it."""

    @cache
    def folder_and_model(name: str) -> tuple[Path, torch.nn.Module]:
        folder = tmp_path_factory.mktemp("models") / "model"
        save_with_tokenizer(random_model(tiny_config(name)), folder)
        from transformers import AutoModelForCausalLM

        return folder, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    return folder_and_model


def loaded(folder: Path, mode: str = "raw", **settings: Any) -> Subject:
    """A model of three layers and four heads as a subject."""
    card = save_tiny_card(folder.parent / "card.toml", n_layer=3, n_head=4)
    return Subject(prepare(Settings(**{"name": str(folder), "card": str(card), "mode": mode, "device": "cpu"} | settings)))


def as_suite_and_as_transformers(subject: Subject, model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """The logit difference on six prompts, through the suite and through nothing of ours."""
    ioi = IOI(subject=subject, seed=0, chunk=PROMPTS, population=Population(names=subject.names), prepend_bos=False)
    suite = torch.tensor(ioi.logit_difference().take(PROMPTS).values).double()
    plain = []
    for prompt in ioi.prompts(PROMPTS):
        ids = torch.tensor([subject.tokenizer(prompt.text, add_special_tokens=False).input_ids])
        answers = [subject.tokenizer(" " + name, add_special_tokens=False).input_ids[0] for name in prompt.answers]
        with torch.no_grad():
            last = model(input_ids=ids).logits[0, -1]
        plain.append(float(last[answers[0]] - last[answers[1]]))
    return suite, torch.tensor(plain).double()


def refused(attempt) -> str:
    """The one sentence with which something is refused."""
    with pytest.raises(SubjectError) as caught:
        attempt()
    message = str(caught.value)
    wrong, colon, todo = message.rpartition(": ")
    assert "\n" not in message and wrong and colon and len(todo.split()) >= 3, message
    return message


@pytest.mark.parametrize("mode", ["raw", "processed"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_logit_difference_is_transformers_own_or_the_model_is_refused(saved, name, mode):
    folder, model = saved(name)
    if (name, mode) in REFUSED:
        assert REFUSED[name, mode] in refused(lambda: loaded(folder, mode))
        return
    subject = loaded(folder, mode)
    suite, plain = as_suite_and_as_transformers(subject, model)
    assert (suite - plain).abs().max() < 1e-4
    assert plain.abs().max() > 1e-2, "agreeing on nothing would mean nothing"
    assert not isinstance(subject._engine, str)
