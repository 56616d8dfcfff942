"""The tokenizer's task: it counts what fails, on tokenizers on which something does."""

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from circuit_claims.prompts.ioi import CORRUPTIONS
from circuit_claims.prompts.templates import TEMPLATES
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES
from circuit_claims.tasks.tokenizer.task import Tokens

FACTS = {"subject": "made up"}


def of(tokenizer, names=NAMES) -> Tokens:
    return Tokens(tokenizer, names, FACTS)


@pytest.fixture(scope="module")
def by_letters() -> PreTrainedTokenizerFast:
    """Knows no word: every letter is a token of its own, as far as words are concerned."""
    letters = [chr(code) for code in range(32, 127)]
    backend = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate([*letters, "[unk]"])}, unk_token="[unk]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[unk]")


def test_of_minis_tokenizer_nothing_fails(mini):
    tokens = of(mini.tokenizer)
    found = [tokens.single(words, "words") for words in (NAMES, PLACES, OBJECTS)]
    found += [measure(change) for change in CORRUPTIONS for measure in (tokens.equal_lengths, tokens.equal_roles)]
    found += [tokens.distinct(NAMES), tokens.aligned(), tokens.orders_aligned()]
    assert all(samples.estimate == 1.0 and samples.exact and samples.facts == FACTS for samples in found)


def test_a_word_that_is_several_tokens_or_unknown_is_counted(mini, by_letters):
    assert of(mini.tokenizer).single(["John", "Xerxes", "Mary"], "names").values.tolist() == [1, 0, 1]
    assert of(by_letters).single(NAMES, "names").estimate == 0


def test_names_that_share_a_token_are_counted(mini):
    assert of(mini.tokenizer).distinct(["John", "Mary", "John"]).values.tolist() == [0, 1, 0]


def test_names_of_different_lengths_change_lengths_and_move_roles(by_letters):
    """By letters, a swapped name is as long only where the two names are, and no name is one token."""
    tokens = of(by_letters)
    alike = sum(len(a) == len(b) for a, b in (prompt.answers for prompt in tokens.prompts())) / len(tokens.prompts())
    assert 0 < tokens.equal_lengths("name swap").estimate == pytest.approx(alike, abs=1e-9)
    assert tokens.equal_roles("name swap").estimate == tokens.aligned().estimate == tokens.orders_aligned().estimate == 0


def test_every_name_stands_in_every_role_of_every_frame(mini):
    prompts = of(mini.tokenizer).prompts()
    assert len(prompts) == 2 * len(TEMPLATES) * len(NAMES)
    for template in range(len(TEMPLATES)):
        for order in ("ABBA", "BABA"):
            frame = [prompt for prompt in prompts if (prompt.template, prompt.order) == (template, order)]
            assert {prompt.answers[0] for prompt in frame} == {prompt.answers[1] for prompt in frame} == set(NAMES)
            assert {prompt.place for prompt in frame} == set(PLACES) and {prompt.object for prompt in frame} == set(OBJECTS)
            assert all(len({*prompt.answers, *prompt.fresh}) == 5 for prompt in frame)
