"""What is measured is the model that transformers loads, or the model is refused with one sentence."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.faithful_boot import LENGTH, Reference, load_model, random_tokens
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from tests.support.tiny_configurations import CONFIGURATIONS, random_model, save_with_tokenizer, tiny_config
from tests.support.tiny_models import save_tiny_card

ROOT = Path(__file__).parents[2]
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
    ("Falcon, ALiBi", "raw"): "the two part in layer 0",
    ("Falcon, ALiBi", "processed"): "the two part in layer 0",
    ("GPT-BigCode, many keys", "raw"): "multi_query",
    ("GPT-BigCode, many keys", "processed"): "multi_query",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a configuration's model, written once, and the model as transformers loads it."""

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
    given: dict[str, Any] = {"name": str(folder), "card": str(card), "mode": mode, "device": "cpu"} | settings
    # Some architectures bring a tokenizer class of their own, whatever tokenizer.json says: that is not what is tested here.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(EMBEDDED["mini"])
    return Subject(replace(prepare(Settings(**given)), tokenizer=tokenizer, names=NAMES))


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


#: Every architecture in both modes. A variant of one, after the comma, that is refused in neither is only processed: on the way
#: there its raw bridge is compared too.
CASES = [
    (name, mode)
    for name in CONFIGURATIONS
    for mode in ("raw", "processed")
    if mode == "processed" or "," not in name or (name, "processed") in REFUSED
]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_the_logit_difference_is_transformers_own_or_the_model_is_refused(saved, name, mode):
    folder, model = saved(name)
    if (name, mode) in REFUSED:
        assert REFUSED[name, mode] in refused(lambda: loaded(folder, mode))
        return
    subject = loaded(folder, mode)
    suite, plain = as_suite_and_as_transformers(subject, model)
    assert (suite - plain).abs().max() < 1e-4
    assert plain.abs().max() > 1e-2, "agreeing on nothing would mean nothing"


def test_a_gpt2_that_does_not_scale_its_attention_runs_on_the_fast_path(saved):
    assert isinstance(loaded(saved("GPT-2, attention not scaled")[0]).transformer, Transformer)
    assert isinstance(loaded(saved("GPT-2, attention scaled by layer")[0]).transformer, ModuleDecoder)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("mode", ["raw", "processed"])
@pytest.mark.parametrize("name", ["GPT-2", "Llama", "Gemma 3"])
def test_rounding_of_a_dtype_is_no_other_model(saved, name, mode, dtype):
    assert loaded(saved(name)[0], mode, dtype=dtype).dtype == getattr(torch, dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["Cohere", "Cohere 2"])
def test_another_function_of_the_tokens_is_noticed_in_coarse_dtypes(saved, name, dtype):
    assert "is not the model" in refused(lambda: loaded(saved(name)[0], dtype=dtype))


@pytest.mark.parametrize("mode", ["raw", "processed"])
@pytest.mark.parametrize(
    ("name", "dtype"), [("mini", "float64"), ("mini", "bfloat16"), ("mini", "float16"), ("planted", "bfloat16")], ids=str
)
def test_the_models_of_this_project_are_accepted_in_coarse_and_fine_dtypes(name, dtype, mode):
    Subject(prepare(Settings(name=name, mode=mode, dtype=dtype, device="cpu")))


PLACES = {
    "the embedding": "model.embed_tokens",
    "layer 0": "model.layers.0.mlp.down_proj",
    "layer 1": "model.layers.1.self_attn.o_proj",
    "layer 2": "model.layers.2.mlp.down_proj",
    "the final norm or the unembedding": "lm_head",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_place_where_two_models_part_is_named(saved, monkeypatch, place):
    """A bridge that changes one matrix on the way, as one that reads a configuration wrongly does."""
    from transformer_lens.model_bridge import TransformerBridge

    boots = TransformerBridge.boot_transformers

    def spoiled(*args: Any, hf_model: torch.nn.Module, **options: Any) -> Any:
        hf_model.get_parameter(f"{PLACES[place]}.weight").mul_(1.1)
        return boots(*args, hf_model=hf_model, **options)

    monkeypatch.setattr(TransformerBridge, "boot_transformers", spoiled)
    message = refused(lambda: loaded(saved("Llama")[0]))
    assert f"the two part in {place} (" in message and "model" in message


def test_an_engine_that_is_not_the_model_as_loaded_is_not_taken(saved, monkeypatch):
    """Though it be the bridge's twin on the tokens that the two are compared on."""
    logits: Callable[..., torch.Tensor] = Transformer.logits

    def wrong_on_whole_prompts(self: Any, resid: torch.Tensor) -> torch.Tensor:
        found = logits(self, resid)
        return found * 1.1 if resid.ndim == 3 else found

    monkeypatch.setattr(Transformer, "logits", wrong_on_whole_prompts)
    assert isinstance(loaded(saved("GPT-2")[0]).transformer, ModuleDecoder)
    logits = ModuleDecoder.logits
    monkeypatch.setattr(ModuleDecoder, "logits", wrong_on_whole_prompts)
    assert isinstance(loaded(saved("GPT-2")[0]).transformer, HookedDecoder)


def test_the_comparison_reaches_beyond_a_short_window_and_stays_within_the_context():
    config = tiny_config("Mistral")
    special = [config.bos_token_id, config.pad_token_id]
    tokens = random_tokens(config, config.vocab_size)
    assert tokens.shape[1] > LENGTH - 1 and tokens.shape[1] > config.sliding_window
    config.sliding_window = 40
    assert random_tokens(config, config.vocab_size).shape[1] > 40
    config.max_position_embeddings = 7
    assert random_tokens(config, config.vocab_size).shape[1] == 7
    assert not set(tokens.flatten().tolist()) & set(special)
    assert torch.equal(tokens, random_tokens(tiny_config("Mistral"), config.vocab_size)), "the same at each call"


def test_a_model_without_numbers_agrees_with_itself(saved):
    """That its logits are none is not the bridge's fault, and is said elsewhere."""
    model = load_model(saved("GPT-2")[0], torch.float32)
    reference = Reference.of(model, random_tokens(model.config, model.config.vocab_size))
    nothing = Reference(reference.tokens, reference.log_probs * torch.nan, (), torch.float32)
    assert nothing.agrees(reference.log_probs) and not reference.agrees(nothing.log_probs)


def test_the_text_model_within_a_multimodal_one_is_what_transformers_computes_of_text(tmp_path):
    from transformers import Gemma3Config

    text = tiny_config("Gemma 3").to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    tokens: dict[str, Any] = {"image_token_index": 3, "boi_token_index": 4, "eoi_token_index": 5, "mm_tokens_per_image": 4}
    model = random_model(Gemma3Config(text_config=text, vision_config=vision, **tokens))
    folder = save_with_tokenizer(model, tmp_path / "model")
    for mode in ("raw", "processed"):
        suite, plain = as_suite_and_as_transformers(loaded(folder, mode), model)
        assert (suite - plain).abs().max() < 1e-4 and plain.abs().max() > 1e-2


def test_optimisation_that_takes_docstrings_away_is_said_to_be_the_reason(tmp_path):
    command = [sys.executable, "-m", "pytest", "claims/ioi/test_role_swaps.py", "--subject", "mini", "-p", "no:cacheprovider"]
    command += ["--report-dir", str(tmp_path)]
    environment = os.environ | {"PYTHONOPTIMIZE": "2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert "PYTHONOPTIMIZE=2" in done.stdout + done.stderr and "config.json" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
