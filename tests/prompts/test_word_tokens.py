"""The token of a word inside a sentence, whatever a tokenizer makes of the word alone."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from circuit_claims.prompts.acronyms import LETTERS, WORDS
from circuit_claims.prompts.batch import TokenizationError, bare_token, make_batches, name_token
from circuit_claims.prompts.facts import RELATIONS
from circuit_claims.prompts.greater_than import NOUNS, year_tokens, years_for
from circuit_claims.prompts.ioi import CORRUPTIONS, Population
from circuit_claims.prompts.sequences import TASKS, THINGS
from circuit_claims.prompts.word_tokens import all_inside, inside, marks_beginnings, offsets_inside
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES
from circuit_claims.sae.text import TextRows
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.tokenizer.task import Tokens
from circuit_claims.untested import Untested
from tests.support.tiny_models import save_tiny_card
from tests.support.tiny_tokenizers import STYLES, dummy_prefix_tokenizer, save_tiny_llama

YEARS = tuple("The war lasted from the year to".split())


@pytest.fixture(scope="module", params=STYLES)
def marking(request):
    """A tokenizer that marks the beginning of a text, in each of the ways that there are."""
    return dummy_prefix_tokenizer(request.param, (*YEARS, *NOUNS, "17"))


def test_the_name_alone_is_another_than_in_a_sentence():
    """What is to be overcome: Llama 2's way gives the blank a token of its own."""
    tokenizer = dummy_prefix_tokenizer("Llama 2")
    assert tokenizer.tokenize(" Mary") == ["▁", "▁Mary"] and tokenizer.tokenize("07") == ["▁", "07"]


def test_a_word_has_the_token_that_it_has_in_a_sentence(marking):
    assert marks_beginnings(marking)
    for prompt in Population().sample(40, seed=3):
        batch = make_batches(marking, [prompt], prepend_bos=False)[0]
        for role, name in (("IO", prompt.answers[0]), ("S1", prompt.answers[1]), ("S2", prompt.answers[1])):
            assert int(batch.tokens[0, batch.positions[role][0]]) == name_token(marking, name)
    assert marking.convert_ids_to_tokens(name_token(marking, "Mary")) == "▁Mary"


def test_what_follows_without_a_space_has_no_mark(marking):
    assert marking.convert_ids_to_tokens(list(year_tokens(marking))) == [f"{year:02d}" for year in range(100)]
    assert marking.convert_ids_to_tokens([bare_token(marking, letter) for letter in LETTERS]) == list(LETTERS)
    assert [" Mary"[a:b] for a, b in offsets_inside(marking, " Mary")] == [" Mary"]


def test_words_are_counted_as_in_sentences(marking):
    tokens = Tokens(marking, NAMES, {"subject": "made up"})
    found = [tokens.single(words, "words") for words in (NAMES, PLACES, OBJECTS)]
    found += [tokens.distinct(NAMES), tokens.aligned(), tokens.orders_aligned()]
    found += [measure(change) for change in CORRUPTIONS for measure in (tokens.equal_lengths, tokens.equal_roles)]
    assert all(samples.estimate == 1.0 for samples in found)
    assert tokens.single(["Mary", "Xerxes", "🙂"], "names").values.tolist() == [1, 0, 0]


def test_years_are_read_as_in_sentences(marking):
    years = years_for(marking)
    assert years.nouns == NOUNS and {year // 100 for year in years.years} == {17}
    prompts = [prompt for prompt, _ in zip(years.stream(0), range(8), strict=False)]
    for batch in make_batches(marking, prompts, prepend_bos=True, answer_token=bare_token):
        said = marking.convert_ids_to_tokens(batch.answers[:, 0].tolist())
        assert said == [prompt.answers[0] for prompt in batch.prompts]


def test_a_word_that_is_joined_with_whatever_stands_before_it_is_refused():
    """There is nothing to take apart, and no id is made up."""
    joined = [f"{before}▁Mary" for before in ("▁They", "▁1", "1", "▁.", ".")]
    tokenizer = dummy_prefix_tokenizer("Llama 2", pieces=joined)
    assert tokenizer.tokenize("They Mary") == ["▁They▁Mary"]
    assert inside(tokenizer, " Mary") == [] and inside(tokenizer, " John") != []
    with pytest.raises(TokenizationError, match="joined with what stands before it"):
        name_token(tokenizer, "Mary")


def test_a_name_that_is_several_tokens_in_a_sentence_is_refused(marking):
    for name in ("Xerxes", "Mary Ann", "🙂"):
        with pytest.raises(TokenizationError, match="is not one token"):
            name_token(marking, name)


def test_a_documents_later_pieces_have_no_mark_of_a_beginning(marking):
    pieces = ["Then, Mary and John\n", "went to the store.\n", None]
    together = marking("".join(piece for piece in pieces if piece), add_special_tokens=False).input_ids
    rows = TextRows(
        "made up", lambda: iter(pieces * 32), marking, context=len(together) + 1, part="held out", prepend_bos=False
    )
    assert rows.rows(0, 1)[0].tolist() == [*together, marking.eos_token_id]


# What is said of a user's own prompts.


def own(subject, prompts, corrupted=None) -> str:
    """The sentence with which fixed prompts are left untested."""
    ioi = IOI(subject=subject, seed=0, chunk=4, population=Population(), prepend_bos=False)
    with pytest.raises(Untested) as caught:
        ioi.published(prompts, prepend_bos=False, corrupted=corrupted)
    assert "published" not in str(caught.value) and "GPT-2" not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_own_prompts_are_not_said_to_be_published(mini):
    clean = ("Then, Mary and John went to the store. John gave a ring to", "Mary", "John")
    said = own(mini, [(clean[0], "Zoltan", "John")])
    assert said == "these prompts cannot be put to mini: the name 'Zoltan' is not one token for this tokenizer (unknown)"
    longer = ("Then, Mary and John went to the old store. John gave a ring to", "Mary", "John")
    said = own(mini, [clean, clean], {"name swap": [clean, longer]})
    assert repr(clean[0]) in said and repr(longer[0]) in said and "equally many" in said


# GPT-2's tokenizer and the embedded model's: no id is another than that of the word alone.


def words() -> list[str]:
    """All words that are ever looked up."""
    facts = [answer for relation in RELATIONS.values() for answer in relation.answers.values()]
    tasks = [word for task in TASKS.values() for word in (*task.members, *task.nexts)]
    return list(dict.fromkeys([*NAMES, *PLACES, *OBJECTS, *NOUNS, *WORDS, *THINGS, *LETTERS, *facts, *tasks]))


def assert_as_alone(tokenizer) -> None:
    assert not marks_beginnings(tokenizer)
    texts = [text for word in words() for text in (f" {word}", word)]
    texts += [f" {year}" for year in range(1000, 2000)] + [f"{digits:02d}" for digits in range(100)] + [" (AB", "\nMary"]
    alone = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    assert all_inside(tokenizer, texts) == alone
    for name in NAMES:
        assert [name_token(tokenizer, name)] == tokenizer(f" {name}", add_special_tokens=False).input_ids


def test_minis_tokens_are_those_of_the_words_alone(mini):
    assert_as_alone(mini.tokenizer)


def test_gpt2s_tokens_are_those_of_the_words_alone(gpt2_folder):
    assert_as_alone(AutoTokenizer.from_pretrained(gpt2_folder))


# A model with such a tokenizer.


@pytest.mark.parametrize("style", STYLES)
def test_the_logit_difference_is_transformers_own(tmp_path, style):
    folder = save_tiny_llama(tmp_path / "llama", dummy_prefix_tokenizer(style))
    card = save_tiny_card(tmp_path / "card.toml", n_layer=3, n_head=4)
    subject = Subject(prepare(Settings(name=str(folder), card=str(card), mode="raw", device="cpu")))
    assert subject.names == NAMES
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), subject.tokenizer
    for prepend_bos in (False, True):
        ioi = IOI(subject=subject, seed=0, chunk=24, population=Population(), prepend_bos=prepend_bos)
        samples = ioi.logit_difference().take(24)
        for prompt, ours in zip(samples.prompts, samples.values, strict=True):
            logits = {}
            for name in prompt.answers:  # each is read at the end of the whole sentence, and nothing of ours is used
                ids = tokenizer(f"{prompt.text} {name}", add_special_tokens=False).input_ids
                start = [tokenizer.bos_token_id] if prepend_bos else []
                with torch.no_grad():
                    logits[name] = float(model(torch.tensor([[*start, *ids[:-1]]])).logits[0, -1, ids[-1]])
            io, s = prompt.answers
            assert ours == pytest.approx(logits[io] - logits[s], abs=1e-4)
        assert abs(samples.values).max() > 0.1
