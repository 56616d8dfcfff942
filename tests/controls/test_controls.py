"""The other models that are written by code: random weights, and a model with its heads at other places; how they are named."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from circuit_claims.controls.names import is_control, modelled_on
from circuit_claims.controls.planted import MUTILATIONS
from circuit_claims.controls.random_weights import Shape, random_weights
from circuit_claims.controls.shuffled import CannotShuffle, orders
from circuit_claims.controls.sources import source_of
from circuit_claims.models.disk_cache import cache, kept
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.card_choice import card_for
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache()


def loaded(name: str, **settings) -> Subject:
    """A subject by its name."""
    return Subject(prepare(Settings(name, device="cpu", **settings)))


@pytest.fixture(scope="module")
def shuffled(mini: Subject) -> Subject:
    """mini with its heads at other places."""
    return loaded("shuffled:mini")


def story(subject: Subject) -> IOI:
    """Two templates of it."""
    return IOI(subject=subject, seed=1, chunk=12, population=Population(templates=(0, 7)), prepend_bos=False)


def mean(measurement, n: int = 12) -> float:
    return float(measurement.take(n).values.mean())


# The cache.


def test_a_changed_comment_writes_no_model_anew_and_changed_code_does(own_cache, monkeypatch, tmp_path):
    monkeypatch.setattr("circuit_claims.controls.sources.__file__", str(tmp_path / "sources.py"))
    sources = []
    for text in ("x = 1  # one\n", "# why\nx = 1  # one\n    # and this\n", "x = 2  # one\n"):
        (tmp_path / "code.py").write_text(text)
        sources.append(source_of(["code.py"]))
    assert sources[0] == sources[1] != sources[2]


def test_what_nobody_asked_for_in_a_month_is_thrown_away(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {name: kept(name, lambda folder: None) for name in ("old", "older-but-used", "recent")}
    long_ago = time.time() - 40 * 24 * 3600
    for name in ("old", "older-but-used"):
        os.utime(folders[name], (long_ago, long_ago))
    kept("older-but-used", lambda folder: pytest.fail("it is there"))
    kept("new", lambda folder: None)
    assert sorted(path.name for path in cache().iterdir()) == ["new", "older-but-used", "recent"]


# Shuffled.


def test_a_shuffled_model_computes_the_same(mini, shuffled):
    tokens = torch.arange(3, 33).view(3, 10)
    with torch.inference_mode():
        assert torch.allclose(mini.last_logits(tokens), shuffled.last_logits(tokens), atol=1e-4)
        assert torch.allclose(mini.bridge(tokens, prepend_bos=False), shuffled.bridge(tokens, prepend_bos=False), atol=1e-3)
    assert shuffled.card.name == "mini" and shuffled.weights_sha256 != mini.weights_sha256


def test_no_head_of_a_shuffled_model_is_where_it_was(mini, shuffled):
    tokens = torch.randint(3, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    before, after = mini.run(tokens), shuffled.run(tokens)
    model = mini.transformer
    for layer, order in enumerate(orders(model.n_layers, model.n_heads)):
        was = model.attention(layer, before.resid[layer]).pattern
        now = shuffled.transformer.attention(layer, after.resid[layer]).pattern
        assert sorted(order) == list(range(model.n_heads))
        for place, source in enumerate(order):
            assert place != source
            assert torch.allclose(now[:, place], was[:, source], atol=1e-4)
            assert not torch.allclose(now[:, place], was[:, place], atol=1e-2)


def test_what_names_heads_is_false_of_a_shuffled_model_and_behaviour_is_not(mini, shuffled):
    heads = mini.card.heads("S-inhibition")
    true, false = story(mini), story(shuffled)
    assert mean(false.logit_difference()) == pytest.approx(mean(true.logit_difference()), abs=1e-4)
    assert mean(true.mean_attention(heads, to="S2")) > 0.7
    assert mean(false.mean_attention(heads, to="S2")) < 0.3


def test_a_shuffled_model_is_the_same_every_time(shuffled):
    assert find_folder("shuffled:mini").sha256() == shuffled.weights_sha256
    assert orders(12, 12) == orders(12, 12) != orders(12, 12, seed=1)


def test_any_folder_can_be_shuffled_and_keeps_its_card(tmp_path):
    folder = save_tiny_gpt2(tmp_path / "mini-tuned", n_layer=4, n_head=8, n_embd=32)
    assert card_for(f"shuffled:{folder}", None).name == "mini"
    tokens = torch.arange(3, 13)[None]
    models = [
        GPT2LMHeadModel.from_pretrained(path, attn_implementation="eager")
        for path in (folder, find_folder(f"shuffled:{folder}").path)
    ]
    with torch.inference_mode():
        first, second = (model.eval()(tokens).logits for model in models)
    assert torch.allclose(first, second, atol=1e-4)


def test_another_card_can_be_named_for_a_shuffled_folder(tmp_path):
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=2, n_embd=16)
    card = save_tiny_card(tmp_path / "tiny.toml", n_layer=2, n_head=2)
    assert loaded(f"shuffled:{folder}", card=str(card)).card.name == "tiny"


def test_weights_in_several_files_are_shuffled_each(tmp_path):
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=4, n_embd=16)
    GPT2LMHeadModel.from_pretrained(folder).save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / "parts" / name)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    whole, parts = find_folder(f"shuffled:{folder}"), find_folder(f"shuffled:{tmp_path / 'parts'}")
    state = {key: value for file in parts.weights for key, value in load_file(file).items()}
    assert all(torch.equal(value, state[key]) for key, value in load_file(whole.weights[0]).items())


def test_a_model_with_one_head_a_layer_cannot_be_shuffled(tmp_path):
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=1, n_embd=16)
    with pytest.raises(SubjectError, match="one head a layer"):
        find_folder(f"shuffled:{folder}")
    with pytest.raises(CannotShuffle):
        orders(2, 1)


def test_another_architecture_cannot_be_shuffled(tmp_path):
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=2, n_embd=16)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "gpt_neox"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SubjectError, match="architecture is gpt_neox"):
        find_folder(f"shuffled:{folder}")


# Random.


@pytest.fixture(scope="module")
def random_mini() -> Subject:
    return loaded("random:mini")


def test_random_weights_in_the_shape_of_mini(random_mini, mini):
    shape = (random_mini.transformer.n_layers, random_mini.transformer.n_heads, random_mini.transformer.d_model)
    assert shape == (4, 8, 128) and random_mini.card.name == "mini"
    assert len(random_mini.tokenizer) == len(mini.tokenizer)
    ioi = story(random_mini)
    assert abs(mean(ioi.logit_difference(), 40)) < 1.5
    assert mean(ioi.mean_attention(random_mini.card.heads("name mover"), to="IO")) < 0.3


def test_random_weights_differ_from_head_to_head_and_are_the_same_every_time():
    shape = Shape(2, 2, 16, 32)
    first, again, other = (random_weights(shape, 50, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])
    qkv = first["transformer.h.0.attn.c_attn.weight"].view(16, 3, 2, 8)
    assert not torch.allclose(qkv[:, :, 0], qkv[:, :, 1], atol=0.1)


def test_random_weights_in_the_shape_of_gpt2_small():
    found = find_folder("random")
    assert (found.config["n_layer"], found.config["n_head"], found.config["n_embd"]) == (12, 12, 768)
    assert found.n_parameters > 85_000_000
    prepared = prepare(Settings("random", device="cpu"))
    assert prepared.card.name == "gpt2-small" and len(prepared.names) == 99


# Names.


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("planted", "gpt2-small"),
        ("planted:without-induction", "gpt2-small"),
        ("random", "gpt2-small"),
        ("random:mini", "mini"),
        ("shuffled", "gpt2-small"),
        ("shuffled:planted", "gpt2-small"),
        ("shuffled:mini", "mini"),
        ("shuffled:random:mini", "mini"),
        ("shuffled:shuffled:mini", "mini"),
        ("shuffled:gpt2", "gpt2-small"),
    ],
)
def test_a_control_goes_by_the_card_of_what_it_is_modelled_on(name, card):
    assert is_control(name)
    found = card_for(name, None)
    assert found is not None and found.name == card


def test_other_names_are_no_controls():
    for name in ("mini", "gpt2", "./planted", "owner/random", "plantedness", "path/to:planted"):
        assert not is_control(name) and modelled_on(name) == name


def refused(name: str) -> str:
    """The one sentence with which a name is refused."""
    with pytest.raises(SubjectError) as caught:
        find_folder(name)
    message = str(caught.value)
    assert "\n" not in message and ": " in message
    return message


def test_an_unknown_mutilation_is_refused_with_those_there_are():
    message = refused("planted:without-thought")
    assert "'without-thought'" in message and all(name in message for name in MUTILATIONS)


def test_random_weights_of_a_model_that_is_not_there_are_refused_as_the_model_is():
    assert refused("random:huge") == refused("huge")


def test_what_is_shuffled_has_to_be_there():
    assert "there is no folder ./nowhere" in refused("shuffled:./nowhere")
    assert "without-thought" in refused("shuffled:planted:without-thought")


def test_a_cache_that_cannot_be_written_is_refused_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "XDG_CACHE_HOME" in refused("random:mini")


def test_a_control_is_called_in_reports_as_it_was_named(shuffled):
    assert shuffled.facts()["subject"] == "shuffled:mini"
    assert find_folder("shuffled:mini").source == "mini with its heads at other places"
