"""The four tasks on real tokenizers: pairs position by position, and answers that their first tokens tell apart."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from transformers import AutoTokenizer

from circuit_claims.embedded import embedded
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.published_tasks.__main__ import TASKS
from circuit_claims.subjects.subject import Settings, prepare
from circuit_claims.tasks.contrast.tokens import first_token


@pytest.fixture(scope="module")
def gpt2s(gpt2_folder) -> Any:
    return AutoTokenizer.from_pretrained(gpt2_folder)


@pytest.fixture(scope="module")
def smollm2s() -> Any:
    try:
        return prepare(Settings(name="smollm2", mode="raw", device="cpu")).tokenizer
    except SubjectError as error:
        pytest.skip(str(error))


#: Tokens of the prompts of each task, and how many prompts have as many.
GPT2: Mapping[str, tuple[int, ...]] = {
    "subject_verb_agreement": (5, 6, 7),
    "gendered_pronouns": (10,),
    "docstrings": (47,),
    "two_digit_addition": (16,),
}
#: Its digits are tokens, and each of the four indentations one token where GPT-2 has four.
SMOLLM2: Mapping[str, tuple[int, ...]] = GPT2 | {"docstrings": (35,), "two_digit_addition": (24,)}


def check(tokenizer: Any, task: str, lengths: tuple[int, ...], whole: bool) -> None:
    """Lengths and answers of all pairs; whole: whether every answer is one token."""
    pairs = Contrasts.of(embedded("pairs", f"{task}.csv"), space=task != "two_digit_addition")
    found: Counter[int] = Counter()
    for number in range(len(pairs)):
        prompt = pairs.prompt(number)
        clean, corrupted = (tokenizer(text)["input_ids"] for text in (prompt.text, prompt.corrupted_text))
        assert len(clean) == len(corrupted), prompt.text
        found[len(clean)] += 1
        answer, foil = (first_token(tokenizer, text, space=pairs.space) for text in prompt.answers)
        assert answer != foil, prompt.answers
        if whole:
            assert tokenizer.decode([answer]).strip() == prompt.answers[0]
    assert tuple(sorted(found)) == lengths


@pytest.mark.parametrize("task", TASKS)
def test_gpt2s_tokenizer_pairs_them_and_has_each_answer_as_one_token(gpt2s, task):
    check(gpt2s, task, GPT2[task], whole=True)


@pytest.mark.parametrize("task", TASKS)
def test_smollm2s_tokenizer_pairs_them_and_tells_sums_apart_by_their_first_digit(smollm2s, task):
    check(smollm2s, task, SMOLLM2[task], whole=task != "two_digit_addition")
