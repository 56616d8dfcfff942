"""The prompts that sources published: tokens where the published tables have them, and corruptions that differ in S2 alone."""

import pytest

from circuit_claims.prompts.published import DEMO, DEMO_CORRUPTED, MAIN_DEMO, MAIN_DEMO_CORRUPTED


@pytest.mark.parametrize(
    ("clean", "corrupted", "length"), [(DEMO, DEMO_CORRUPTED, 15), ((MAIN_DEMO,), (MAIN_DEMO_CORRUPTED,), 17)]
)
def test_clean_and_corrupted_prompts_differ_in_S2_alone(gpt2_folder, clean, corrupted, length):
    """By GPT-2's own tokenizer, with BOS; the corrupted prompts keep the answers of the clean ones."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    for (text, io, s), (other, *answers) in zip(clean, corrupted, strict=True):
        a, b = (tokenizer(tokenizer.bos_token + each).input_ids for each in (text, other))
        assert len(a) == len(b) == length and answers == [io, s]
        assert [i for i in range(length) if a[i] != b[i]] == [10]
        assert tokenizer.decode([a[10]]) == " " + s and tokenizer.decode([b[10]]) == " " + io


def test_every_demo_prompt_is_the_corruption_of_another():
    assert sorted(text for text, _, _ in DEMO) == sorted(text for text, _, _ in DEMO_CORRUPTED)
