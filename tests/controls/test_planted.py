"""The planted model: a plain GPT-2 of the small one's shape, whose heads do what its plan says and what the paper publishes."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from circuit_claims.cards.find import find_card
from circuit_claims.controls.construction import HEADS, LAYERS, planted_weights
from circuit_claims.controls.plan import (
    BACKUPS,
    DUPLICATE_TOKEN,
    INDUCTION,
    NAME_MOVERS,
    NEGATIVE,
    OTHER_PREVIOUS_TOKEN,
    PREVIOUS_TOKEN,
    S_INHIBITION,
    plan,
)
from circuit_claims.controls.planted import MOVED_TO, MUTILATIONS, planted_folder, version
from circuit_claims.controls.spherical_codes import spread_codes, turn, waves
from circuit_claims.controls.vocabulary import token_ids
from circuit_claims.heads import Head
from circuit_claims.models.disk_cache import cache, kept
from circuit_claims.prompts.batch import make_batches
from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.templates import TEMPLATES
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.induction.repeated_tokens import RepeatedTokens
from circuit_claims.tasks.ioi.task import IOI

#: One prompt of every template and order.
N = 2 * len(TEMPLATES)
FAMILIES = {
    "name_mover": NAME_MOVERS,
    "backup_name_mover": BACKUPS,
    "negative_name_mover": NEGATIVE,
    "S-inhibition": S_INHIBITION,
    "induction": INDUCTION,
    "duplicate_token": DUPLICATE_TOKEN,
    "previous_token": PREVIOUS_TOKEN,
}
#: Where the heads of a family look: from a role to a role.
LOOKS = {
    "previous_token": ("S1+1", "S1"),
    "duplicate_token": ("S2", "S1"),
    "induction": ("S2", "S1+1"),
    "S-inhibition": ("END", "S2"),
    "name_mover": ("END", "IO"),
}


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache()


@pytest.fixture(scope="module")
def seconds(own_cache: Path) -> float:
    """How long the processor worked to write the model for the first time."""
    start = time.process_time()
    planted_folder()
    return time.process_time() - start


@pytest.fixture(scope="module")
def subject(seconds: float) -> Subject:
    """The planted model, found by name and loaded as any other subject."""
    return Subject(prepare(Settings("planted", device="cpu")))


@pytest.fixture(scope="module")
def ioi(subject: Subject) -> IOI:
    return IOI(subject=subject, seed=7, chunk=N, population=Population(half=None), prepend_bos=False)


def mean(measurement, n: int = N) -> float:
    """The mean over prompts."""
    return float(measurement.take(n).values.mean())


def share(measurement, n: int = N) -> float:
    """The ratio of means behind a share."""
    samples = measurement.take(n)
    return float(samples.values.mean() / samples.weights.mean())


# What it is.


def test_it_is_a_plain_gpt2_of_the_small_ones_shape(seconds):
    config = GPT2Config.from_pretrained(planted_folder())
    assert (config.n_layer, config.n_head, config.n_embd, config.n_positions, config.n_inner) == (12, 12, 768, 1024, None)
    assert config.activation_function == "gelu_new" and config.tie_word_embeddings
    loaded: Any = GPT2LMHeadModel.from_pretrained(planted_folder(), output_loading_info=True)
    model, report = loaded
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert set(report["missing_keys"]) <= {"lm_head.weight"}
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_it_is_found_by_its_name_with_the_card_of_gpt2_small(subject):
    assert subject.card.name == "gpt2-small" and subject.name == "planted" and subject.names == NAMES
    assert isinstance(subject.transformer.n_layers, int), "the engine knows its architecture, and agrees with the bridge"


def test_it_stands_in_the_users_cache_under_its_version(seconds, own_cache):
    folder = planted_folder()
    assert folder == own_cache / f"planted-{version()}"
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert planted_folder() == folder and (folder / "model.safetensors").stat().st_mtime_ns == before


def test_it_is_written_in_seconds(seconds):
    assert seconds < 20


def test_it_is_the_same_to_the_last_bit_every_time(seconds, tmp_path, monkeypatch):
    first = find_folder("planted").sha256()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert planted_folder().is_relative_to(tmp_path)
    assert hashlib.sha256((planted_folder() / "model.safetensors").read_bytes()).hexdigest() == first


def test_its_heads_are_the_cards():
    card = find_card("gpt2-small")
    for family, heads in FAMILIES.items():
        assert set(card.heads(family)) == set(heads), family


def test_every_word_of_the_prompts_is_a_token(subject):
    ids, unknown = token_ids(), subject.tokenizer.unk_token_id
    assert len(subject.tokenizer) == len(ids)
    every = [
        p for q in Population(half=None).sample(60, 1) for p in (q, q.changed("neutral prefix"), q.changed("distractor name"))
    ]
    texts = [p.text for p in every] + ["When John and Mary went to the shops, John gave the bag to", "Dan and Sid got an apple"]
    assert all(unknown not in subject.tokenizer(text).input_ids for text in texts)


# What its heads do.


@pytest.mark.parametrize("family", LOOKS)
def test_heads_attend_where_the_plan_says(ioi, family):
    of, to = LOOKS[family]
    least = {"S-inhibition": 0.4, "name_mover": 0.45}.get(family, 0.9)
    for head in FAMILIES[family]:
        assert mean(ioi.mean_attention([head], of=of, to=to)) > least, head


@pytest.mark.parametrize("score", ["previous token", "duplicate token", "induction"])
def test_early_heads_do_the_same_on_random_tokens(subject, score):
    heads = FAMILIES[score.replace(" ", "_")]
    values = RepeatedTokens(subject, 0, False, length=30).attention_scores(score).take(4).values.mean(0)
    # L3H7 looks one back too, and is in no circuit that was published.
    first = len(heads) + len(OTHER_PREVIOUS_TOKEN if score == "previous token" else ())
    assert {Head(*divmod(int(i), HEADS)) for i in np.argsort(-values, axis=None)[:first]} >= set(heads)


def test_negatives_look_for_what_is_about_to_be_said_and_backups_away_from_it(ioi):
    assert mean(ioi.attention_difference(list(NEGATIVE), to="IO", over="S1")) > 0.1
    awake = [Head(10, 10), Head(10, 6), Head(10, 1)]
    assert mean(ioi.attention_difference([Head(11, 2)], to="S1", over="IO")) > 0.05
    assert mean(ioi.ablate(list(NAME_MOVERS), at="END").value()) > mean(ioi.ablate([*NAME_MOVERS, *awake], at="END").value())


def test_heads_without_a_job_do_next_to_nothing(ioi):
    idle = [Head(layer, head) for layer in range(LAYERS) for head in range(HEADS) if Head(layer, head) not in plan()]
    assert len(idle) > 100
    assert share(ioi.ablate(idle).remaining()) == pytest.approx(1, abs=0.06)


# How near it comes to what is published (the card's values; here with room for thirty prompts).


def test_headline_numbers_are_the_papers(ioi):
    assert mean(ioi.logit_difference()) == pytest.approx(3.56, abs=0.3)
    assert mean(ioi.probability()) == pytest.approx(0.49, abs=0.08)
    assert mean(ioi.prefers_io()) == 1
    assert mean(ioi.changed("name swap").logit_difference()) == pytest.approx(-3.5, abs=0.35)
    assert abs(mean(ioi.changed("ABC").logit_difference())) < 0.8
    assert mean(ioi.mean_attention(list(NAME_MOVERS), to="IO")) == pytest.approx(0.59, abs=0.06)
    assert mean(ioi.mean_attention(list(S_INHIBITION), to="S2")) == pytest.approx(0.51, abs=0.06)
    assert 0.85 < share(ioi.ablate(list(NAME_MOVERS), at="END").remaining()) < 1.0
    assert share(ioi.ablate(list(NEGATIVE)).remaining()) > 1.3
    assert share(ioi.ablate(list(S_INHIBITION)).remaining()) < 0.3


@pytest.mark.parametrize("change", ["neutral prefix", "distractor name", "extra S"])
def test_what_changes_nothing_in_the_paper_changes_little(ioi, change):
    few = ioi.on(templates=(0, 5)) if change != "extra S" else ioi.on(templates=(0, 14))
    assert mean(few.changed(change).logit_difference(), 16) == pytest.approx(mean(few.logit_difference(), 16), rel=0.25)


def test_the_answer_follows_the_roles_with_BOS_too(subject):
    with_bos = IOI(subject=subject, seed=7, chunk=N, population=Population(half=None), prepend_bos=True)
    assert mean(with_bos.logit_difference()) == pytest.approx(3.56, abs=0.4)
    assert mean(with_bos.changed("name swap").logit_difference()) < -3


def test_weights_as_released_give_the_same_logits(subject, ioi):
    model = GPT2LMHeadModel.from_pretrained(planted_folder(), dtype=torch.float32).eval()
    (batch, *_) = ioi.batches(ioi.prompts(8))
    with torch.inference_mode():
        ours, theirs = (subject.last_logits(batch.tokens), model(batch.tokens).logits[:, -1])
    assert torch.allclose(ours.log_softmax(-1), theirs.log_softmax(-1), atol=1e-3)


# Its parts taken out.


def plain_model(mutilation: str) -> GPT2LMHeadModel:
    """The model less a part, as transformers runs it, without this project's engine."""
    config = GPT2Config.from_pretrained(planted_folder(), attn_implementation="eager")
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    model.load_state_dict(planted_weights(MUTILATIONS[mutilation].change(plan())), strict=False, assign=True)
    model.tie_weights()
    return model.eval()


def seen(model: GPT2LMHeadModel, ioi: IOI) -> tuple[float, dict[str, float]]:
    """Mean logit difference over some prompts, and for each family its heads' mean attention to where they look."""
    differences, attention = [], {family: [] for family in LOOKS}
    for batch in make_batches(ioi.subject.tokenizer, ioi.prompts(10), prepend_bos=False):
        with torch.inference_mode():
            out = model(batch.tokens, output_attentions=True)
        answers = out.logits[:, -1].gather(1, batch.answers)
        differences += (answers[:, 0] - answers[:, 1]).tolist()
        rows = torch.arange(len(batch.tokens))
        for family, (of, to) in LOOKS.items():
            for head in FAMILIES[family]:
                pattern = out.attentions[head.layer][rows, head.head, batch.positions[of], batch.positions[to]]
                attention[family] += pattern.tolist()
    return float(np.mean(differences)), {family: float(np.mean(values)) for family, values in attention.items()}


@pytest.fixture(scope="module")
def whole(ioi: IOI) -> tuple[float, dict[str, float]]:
    model = GPT2LMHeadModel.from_pretrained(planted_folder(), attn_implementation="eager", dtype=torch.float32).eval()
    return seen(model, ioi)


#: For each mutilation, what share of the logit difference is left.
LEFT = {
    "without-S-inhibition": (-0.15, 0.25),
    "without-induction": (0.1, 0.7),
    "without-duplicate-token": (0.1, 0.7),
    "without-previous-token": (0.3, 0.95),
    "without-negative": (1.3, 2.0),
    "without-backups": (0.75, 1.15),
    "name-movers-moved": (0.9, 1.1),
}


def test_every_mutilation_names_families_of_the_card():
    card = find_card("gpt2-small")
    assert set(LEFT) == set(MUTILATIONS)
    for name, (change, what, families) in MUTILATIONS.items():
        assert change(plan()) != plan() and what and set(families) <= set(card.families), name


@pytest.mark.parametrize("name", LEFT)
def test_a_mutilation_takes_what_it_should_and_leaves_the_rest(ioi, whole, name):
    difference, attention = seen(plain_model(name), ioi)
    low, high = LEFT[name]
    assert low < difference / whole[0] < high
    gone = {"name-movers-moved": "name_mover"}.get(name, name.removeprefix("without-").replace("-token", "_token"))
    for family in LOOKS:
        if family == gone:
            # Noise attends to all tokens alike, of which S1+1 has three or four before it.
            assert attention[family] < 0.3, f"{family} attends no more"
    # What comes before the part in the model does not know that it is gone.
    order = ["previous_token", "duplicate_token", "induction", "S-inhibition", "name_mover"]
    for family in order[: order.index(gone)] if gone in order else order:
        assert attention[family] == pytest.approx(whole[1][family], abs=0.05), family


def test_moved_name_movers_do_at_their_new_places_what_they_did(ioi):
    jobs = MUTILATIONS["name-movers-moved"].change(plan())
    for old, new in MOVED_TO.items():
        assert new.layer == old.layer and new not in plan() and jobs[new] == plan()[old] and old not in jobs


# What it is made of.


def test_codes_are_unlike_each_other():
    codes = spread_codes(105, 36, seed=1)
    gram = codes @ codes.T
    assert torch.allclose(gram.diagonal(), torch.ones(105, dtype=gram.dtype), atol=1e-4)
    assert float(gram.fill_diagonal_(0).abs().max()) < 0.2


def test_turning_a_position_by_one_gives_the_one_before():
    frequencies = (3, 17, 40)
    codes = waves(20, frequencies, 101)
    assert torch.allclose(codes[1:] @ turn(frequencies, 101, -1), codes[:-1], atol=1e-12)


def test_a_folder_that_could_not_be_filled_is_not_left_behind(own_cache):
    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        kept("never", fails)
    assert not list(own_cache.glob("*never*"))


def test_a_relative_cache_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache() == Path.home() / ".cache" / "circuit-claims"


def test_the_config_is_gpt2s_and_nothing_of_ours(seconds):
    config = json.loads((planted_folder() / "config.json").read_text())
    assert config["model_type"] == "gpt2" and config["architectures"] == ["GPT2LMHeadModel"]
    assert "auto_map" not in config
