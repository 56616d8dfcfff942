"""Prompts: what they say, who stands where, and that no sample repeats itself."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import Metaspace

from circuit_claims.prompts.batch import TokenizationError, make_batches, name_token
from circuit_claims.prompts.ioi import ADDITIONS, CORRUPTIONS, Population, Prompt, half_of
from circuit_claims.prompts.strategies import populations
from circuit_claims.prompts.templates import ORDERS, TEMPLATES, TWO_SENTENCE_TEMPLATES, frame_text
from circuit_claims.prompts.words import NAMES
from tests.support.tiny_tokenizers import dummy_prefix_tokenizer


def test_there_are_fifteen_templates_and_ninety_nine_names():
    assert len(TEMPLATES) == 15
    assert len(set(NAMES)) == len(NAMES) == 99


def test_the_first_template_reads_as_in_the_paper():
    assert frame_text(0, "BABA") == "Then, {S1} and {IO} went to the {PLACE}. {S2} gave a {OBJECT} to"
    assert frame_text(0, "ABBA") == "Then, {IO} and {S1} went to the {PLACE}. {S2} gave a {OBJECT} to"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("template", range(15))
def test_abba_and_baba_differ_only_in_who_comes_first(template, order):
    text = frame_text(template, order)
    assert (text.index("{IO}") < text.index("{S1}")) is (order == "ABBA")
    assert text.index("{S2}") > max(text.index("{IO}"), text.index("{S1}"))


@given(population=populations(), seed=st.integers(0, 5))
def test_every_prompt_knows_where_its_names_stand(population, seed):
    for prompt in population.sample(16, seed):
        io, s = prompt.answers
        said = {role: prompt.text[begin:end] for role, begin, end in prompt.spans}
        assert said == {"IO": io, "S1": s, "S2": s}
        assert prompt.text.endswith(" to")
        assert "{" not in prompt.text


@given(population=populations(), seed=st.integers(0, 5), corruption=st.sampled_from(CORRUPTIONS))
def test_a_corruption_changes_names_and_nothing_else(mini, population, seed, corruption):
    prompts = population.sample(16, seed)
    clean = make_batches(mini.tokenizer, prompts, prepend_bos=False)
    changed = make_batches(mini.tokenizer, [p.changed(corruption) for p in prompts], prepend_bos=False)
    for a, b in zip(clean, changed, strict=True):
        assert (a.answers == b.answers).all(), "a corrupted prompt keeps its labels"
        for role in a.positions:
            assert (a.positions[role] == b.positions[role]).all()
        differs = a.tokens != b.tokens
        for role in ("IO", "S1", "S2"):
            differs[range(len(differs)), a.positions[role]] = False
        assert not differs.any()


def test_what_each_corruption_does_to_the_names():
    prompt = Population(templates=(0,), orders=("ABBA",)).sample(1, 0)[0]
    io, s = prompt.answers
    names = {c: {role: prompt.changed(c).text[a:b] for role, a, b in prompt.changed(c).spans} for c in CORRUPTIONS}
    assert names["name swap"] == {"IO": s, "S1": io, "S2": io}
    assert names["S2 to IO"] == {"IO": io, "S1": s, "S2": io}
    assert len(set(names["ABC"].values())) == 3 and not set(names["ABC"].values()) & {io, s}
    assert names["random names"]["S1"] == names["random names"]["S2"] != names["random names"]["IO"]
    assert not set(names["random names"].values()) & {io, s}
    assert names["S1-IO flip"] == {"IO": s, "S1": io, "S2": s}
    flipped = names["random names, S1-IO flip"]
    assert flipped["IO"] == flipped["S2"] != flipped["S1"]
    assert set(flipped.values()) == set(names["random names"].values())


def test_an_extra_sentence_stands_between_the_two_and_names_the_right_one():
    for prompt in Population(templates=TWO_SENTENCE_TEMPLATES).sample(30, 0):
        io, s = prompt.answers
        for change, who in (("extra S", s), ("extra IO", io)):
            changed = prompt.changed(change)
            assert changed.text.count(who) == prompt.text.count(who) + 1
            assert changed.text.count(".") == prompt.text.count(".") + 1
            (begin,) = (a for role, a, _ in changed.spans if role == "X")
            assert begin > max(a for role, a, _ in changed.spans if role in ("IO", "S1"))
            assert begin < next(a for role, a, _ in changed.spans if role == "S2")
    with pytest.raises(ValueError, match="one sentence"):
        _ = Population(templates=(5,)).sample(1, 0)[0].changed("extra S").text


def test_a_distractor_is_neither_of_the_two():
    for prompt in Population().sample(60, 0):
        changed = prompt.changed("distractor name")
        ((what, begin, end),) = changed.phrases
        assert what == "distractor" and begin == 0 and changed.text[begin:end] not in prompt.answers
        assert prompt.phrases == () and {role for role, _, _ in changed.spans} == {"IO", "S1", "S2"}


def test_a_distractor_may_be_several_tokens_where_it_begins_the_text():
    """As 'Christopher' is for tokenizers that know it behind a space alone; roles stand where they stand."""
    tokenizer = dummy_prefix_tokenizer("first")
    tokenizer.backend_tokenizer.pre_tokenizer = Metaspace(prepend_scheme="never", split=False)
    prompts = [prompt.changed("distractor name") for prompt in Population().sample(12, 0)]
    for batch in make_batches(tokenizer, prompts, prepend_bos=False):
        first, last = batch.positions["first distractor token"], batch.positions["last distractor token"]
        assert (first == 0).all() and (last > first).all()
        for prompt, tokens, where in zip(batch.prompts, batch.tokens, batch.positions["S1"], strict=True):
            assert str(tokenizer.decode([int(tokens[where])])).strip() == prompt.answers[1]


def test_an_unknown_change_says_which_there_are():
    with pytest.raises(ValueError, match="neutral prefix"):
        Population().sample(1, 0)[0].changed("upside down")
    assert set(CORRUPTIONS) & set(ADDITIONS) == set()


def test_no_prompt_comes_twice_and_the_seed_decides():
    once, again, other = Population().sample(960, 0), Population().sample(960, 0), Population().sample(960, 1)
    assert len({p.text for p in once}) == 960
    assert once == again
    assert len({p.text for p in once} & {p.text for p in other}) < 100


def test_a_longer_sample_begins_with_the_shorter_one():
    assert Population().sample(200, 0)[:50] == Population().sample(50, 0)


def test_reseeding_the_global_generators_cannot_make_prompts_alike():
    """Hypothesis reseeds `random` before every example: a sampler that drew from it would give one prompt over and over."""
    stream, seen = Population().stream(0), []
    for _ in range(50):
        random.seed(0)
        np.random.seed(0)
        seen.append(next(stream).text)
    assert len(set(seen)) == 50


def test_templates_and_orders_are_equally_represented():
    counts: dict[tuple[int, str], int] = {}
    for prompt in Population().sample(120, 0):
        counts[prompt.template, prompt.order] = counts.get((prompt.template, prompt.order), 0) + 1
    assert len(counts) == 30 and set(counts.values()) == {4}


def test_the_two_halves_share_no_pair_of_names():
    pairs = {half: {frozenset(p.answers) for p in Population(half=half).sample(900, 0)} for half in ("discovery", "verdict")}
    assert not pairs["discovery"] & pairs["verdict"]
    assert half_of("Mary", "John") == half_of("John", "Mary")


def test_too_few_names_or_prompts_are_said():
    with pytest.raises(ValueError, match="too few"):
        Population(names=("Mary", "John")).sample(1, 0)
    with pytest.raises(ValueError, match="no more than"):
        Population(templates=(4,), orders=("ABBA",), names=NAMES[:8]).sample(100, 0)


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_roles_are_the_tokens_they_should_be(mini, prepend_bos):
    assert_roles(mini.tokenizer, prepend_bos)


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_roles_are_right_for_gpt2s_own_tokenizer(gpt2_folder, prepend_bos):
    from transformers import AutoTokenizer

    assert_roles(AutoTokenizer.from_pretrained(gpt2_folder), prepend_bos)


def assert_roles(tokenizer, prepend_bos: bool) -> None:
    """Decode the token at every role and compare it with what the prompt says."""
    prompts = [p.changed(c) if c else p for p in Population().sample(60, 0) for c in ("", "ABC", "neutral prefix")]
    batches = make_batches(tokenizer, prompts, prepend_bos=prepend_bos)
    assert sorted(i for b in batches for i in b.index) == list(range(len(prompts)))
    for batch in batches:
        assert (batch.tokens[:, 0] == tokenizer.bos_token_id).all().item() is prepend_bos
        for row, prompt in enumerate(batch.prompts):
            assert isinstance(prompt, Prompt)
            for role, begin, end in prompt.spans:
                assert tokenizer.decode([batch.tokens[row, batch.positions[role][row]]]).strip() == prompt.text[begin:end]
            assert batch.positions["S1+1"][row] == batch.positions["S1"][row] + 1
            assert batch.positions["END"][row] == batch.tokens.shape[1] - 1
            assert tokenizer.decode([batch.tokens[row, -1]]).strip() == "to"
            assert [tokenizer.decode([t]).strip() for t in batch.answers[row]] == list(prompt.answers)


def test_every_name_is_one_token_for_gpt2s_own_tokenizer(gpt2_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    assert len({name_token(tokenizer, name) for name in NAMES}) == 99


def test_a_name_that_is_unknown_to_the_tokenizer_is_refused(mini):
    with pytest.raises(TokenizationError, match="Xerxes"):
        name_token(mini.tokenizer, "Xerxes")


def test_an_unknown_role_says_which_there_are(mini):
    (batch, *_) = make_batches(mini.tokenizer, Population().sample(4, 0), prepend_bos=False)
    with pytest.raises(KeyError, match="S1"):
        batch.at("S3")
