"""The prompts of year spans: their texts, their halves, and what a tokenizer has to know."""

from dataclasses import replace

import pytest

from circuit_claims.controls.vocabulary import save_tokenizer
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.prompts.greater_than import (
    NOUNS,
    SPANS,
    YearPrompt,
    Years,
    half_of,
    knows_form,
    year_tokens,
    years_for,
)
from circuit_claims.prompts.mini_words import SPANS as TRAINED_SPANS
from circuit_claims.tasks.greater_than.task import GreaterThan
from circuit_claims.untested import Untested
from tests.support.year_tasks import population_sample, task


@pytest.fixture(scope="module")
def years(mini) -> GreaterThan:
    return task(mini)


def test_the_published_nouns_and_those_of_minis_text_are_what_they_are():
    assert len(set(NOUNS)) == 120 and SPANS == TRAINED_SPANS


def test_a_prompt_reads_as_published():
    """A row of EAP-IG's greater_than_data.csv, which leaves out BOS and the space after it."""
    prompt = YearPrompt("contract", 13, 52, 52)
    assert prompt.text == " The contract lasted from the year 1352 to the year 13"
    corrupted = prompt.changed("01")
    assert corrupted.text == " The contract lasted from the year 1301 to the year 13" and corrupted.start == 52
    ((role, begin, end),) = prompt.spans
    assert (role, prompt.text[begin:end]) == ("YY", "52") and prompt.answers == ("53", "51")
    with pytest.raises(ValueError, match="the one there is"):
        prompt.changed("ABC")


def test_the_other_wording_is_that_of_the_authors_and_untested_without_its_words(years, gpt2_folder):
    from transformers import AutoTokenizer

    prompt = YearPrompt("quest", 17, 52, 52, "started")
    assert prompt.text == " The quest started in the year 1752 and ended in the year 17"
    assert [prompt.text[begin:end] for _, begin, end in prompt.spans] == ["52"]
    assert knows_form(AutoTokenizer.from_pretrained(gpt2_folder), "started")
    assert {p.century for p in years.worded("lasted", century=17).prompts(50)} == {17}
    with pytest.raises(Untested, match="started in the year 1732 and ended"):
        years.worded("started", century=17)


def test_minis_years_are_its_own_words(mini):
    population = years_for(mini.tokenizer)
    assert population.nouns == SPANS
    assert len(population.years) == 8 * 97 and {year % 100 for year in population.years} == set(range(2, 99))


def test_gpt2s_years_are_two_tokens_and_pair_with_their_corruption(gpt2_folder):
    """All 120 nouns are there; 1001 is [100][1], so the eleventh century is not; the first and last of each century are out."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    population = years_for(tokenizer)
    assert population.nouns == NOUNS
    assert tokenizer.convert_ids_to_tokens(tokenizer(" 1001").input_ids) == ["Ġ100", "1"]
    by_century = {c: [y % 100 for y in population.years if y // 100 == c] for c in range(10, 20)}
    assert [len(by_century[c]) for c in range(10, 20)] == [0, 53, 96, 89, 96, 89, 97, 97, 77, 0]
    assert min(population.years) == 1110 and all(1 < y % 100 < 99 for y in population.years)
    digits = year_tokens(tokenizer)
    for prompt in population_sample(population, 300):
        clean, corrupted = (tokenizer(p.text).input_ids for p in (prompt, prompt.changed("01")))
        assert len(clean) == len(corrupted) == 12
        assert [i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b] == [7]
        assert clean[7] == digits[prompt.start] and corrupted[7] == digits[1] and clean[6] == clean[-1]
        assert tokenizer.convert_ids_to_tokens(clean[0]) == "ĠThe"


def test_the_halves_are_apart_and_the_stream_is_the_seeds(mini):
    population = years_for(mini.tokenizer)
    drawn = {half: population_sample(replace(population, half=half), 500) for half in ("verdict", "discovery")}
    for half, prompts in drawn.items():
        assert len({prompt.text for prompt in prompts}) == 500
        assert {half_of(prompt.noun, 100 * prompt.century + prompt.start) for prompt in prompts} == {half}
    assert population_sample(population, 50) == population_sample(population, 50)
    with pytest.raises(ValueError, match="holds no more than"):
        list(Years(("war",), (1732, 1733), half=None).stream(0))


def test_without_the_words_or_a_BOS_token_it_is_untested(tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path, 96)  # of the planted models: no years
    with pytest.raises(Untested, match="has not the words"):
        years_for(AutoTokenizer.from_pretrained(tmp_path))
    no_bos = AutoTokenizer.from_pretrained(EMBEDDED["mini"])
    no_bos.bos_token = None
    with pytest.raises(Untested, match="no BOS"):
        years_for(no_bos)
