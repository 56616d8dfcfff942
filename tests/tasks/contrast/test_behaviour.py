"""What pairs are judged by, against plain forward passes."""

import numpy as np
import pytest
import torch

from circuit_claims.tasks.metric import Metric
from circuit_claims.untested import Untested
from tests.tasks.contrast.capitals import capitals, task
from tests.tasks.contrast.plain import Plain

FEW = 9


def plain_values(given, name: str) -> np.ndarray:
    """A metric by hand, prompt by prompt."""
    plain, found = Plain(given.subject, bos=given.prepend_bos), []
    for prompt in given.prompts(FEW):
        logits = plain.logits(prompt)
        p = logits.softmax(-1)
        right, wrong = ([plain.token(word) for word in side] for side in (prompt.right, prompt.wrong))
        best = max(float(logits[token]) for token in right)
        found.append(
            {
                "logit_difference": float(np.mean([logits[t] for t in right]) - np.mean([logits[t] for t in wrong])),
                "probability": float(sum(p[t] for t in right)),
                "probability_difference": float(sum(p[t] for t in right) - sum(p[t] for t in wrong)),
                "rank": 1 + sum(float(logit) > best for logit in logits),
                "prefers_answer": float(np.mean([logits[t] for t in right]) > np.mean([logits[t] for t in wrong])),
                "answers_right": float(int(logits.argmax()) in right),
            }[name]
        )
    return np.array(found)


@pytest.mark.parametrize(
    "name", ["logit_difference", "probability", "probability_difference", "rank", "prefers_answer", "answers_right"]
)
@pytest.mark.parametrize("which", ["known", "unlike"])
def test_measures_of_behaviour_are_the_plain_ones(request, which, name):
    given = request.getfixturevalue(which)
    assert getattr(given, name)().take(FEW).values == pytest.approx(plain_values(given, name), abs=5e-6)


def test_a_prompt_begins_with_bos_where_that_is_asked(exact_mini):
    given = task(exact_mini, capitals(), bos=True)
    assert given.logit_difference().take(FEW).values == pytest.approx(plain_values(given, "logit_difference"), abs=5e-6)


@pytest.mark.parametrize("which", ["known", "unlike"])
def test_the_divergence_is_from_the_clean_prompt(request, which):
    given = request.getfixturevalue(which).judged_by("KL")
    plain, expected = Plain(given.subject), []
    for prompt in given.prompts(FEW):
        p, q = (plain.logits(text).log_softmax(-1) for text in (prompt, prompt.changed("corrupted")))
        expected.append(float((p.exp() * (p - q)).sum()))
    assert given.baseline().take(FEW).values == pytest.approx(np.zeros(FEW), abs=1e-6)
    assert given.baseline("corrupted").take(FEW).values == pytest.approx(expected, abs=1e-5)
    assert min(expected) > 0


def test_the_rank_as_a_metric_counts_down_from_the_likeliest(unlike):
    assert unlike.judged_by("rank").baseline().take(FEW).values == pytest.approx(1 - plain_values(unlike, "rank"))


def test_a_metric_of_ones_own_has_its_name_and_unit_everywhere(known):
    def capitals_share(logits, batch):
        return logits.softmax(-1).gather(-1, batch.answers.expand(*logits.shape[:-1], 2)).sum(-1)

    mine = known.judged_by(Metric("probability of both", "probability", capitals_share))
    measured = mine.baseline().take(FEW)
    assert (measured.quantity, measured.unit) == ("probability of both", "probability")
    assert measured.values == pytest.approx(
        2 * plain_values(known, "probability") - plain_values(known, "probability_difference"), abs=5e-6
    )
    assert mine.patch(known.all_heads[:1]).change().take(FEW).unit == "probability"
    with pytest.raises(ValueError, match="unknown metric 'loss': use one of logit difference, probability, "):
        known.judged_by("loss")


def test_numbers_of_tokens_are_the_answers_that_they_stand_for(exact_mini, known):
    plain = Plain(exact_mini)
    pairs = [
        {key: pair[key] for key in ("clean", "corrupted")}
        | {"correct_idx": plain.token(pair["answer"]), "incorrect_idx": plain.token(pair["foil"])}
        for pair in capitals()
    ]
    by_text = {prompt.text: value for prompt, value in zip(known.prompts(46), known.baseline().take(46).values, strict=True)}
    given = task(exact_mini, pairs)
    assert given.baseline().take(46).values == pytest.approx([by_text[prompt.text] for prompt in given.prompts(46)], abs=1e-6)


def test_dealt_answers_take_the_difference_away(known):
    assert known.logit_difference().take().mean_interval()[0] > 5
    low, high = known.on(dealt=True).logit_difference().take().mean_interval()
    assert low < 1 and high < 5


# What a subject cannot carry is one sentence


def said(given) -> str:
    with pytest.raises(Untested) as caught:
        given.logit_difference().take()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_index_that_the_vocabulary_lacks_is_told(exact_mini):
    pairs = [{"clean": f"a {i}", "corrupted": f"b {i}", "correct_idx": 3 + i, "incorrect_idx": 2} for i in range(8)]
    assert task(exact_mini, pairs).prompts(8)
    pairs[4]["incorrect_idx"] = 10**6
    with pytest.raises(
        ValueError, match=r"^row 5 of the list of pairs has the token 1000000, and the vocabulary of mini ends at"
    ):
        task(exact_mini, pairs)


def test_answers_that_begin_alike_are_told(exact_noise):
    pairs = [{"clean": f"a {i}", "corrupted": f"b {i}", "answer": "New York", "foil": "New Jersey"} for i in range(8)]
    assert "the answer 'New York' and the foil 'New Jersey' begin with the same token (' New')" in said(
        task(exact_noise, pairs)
    )
    differ = [pair | {"foil": "Los Angeles"} for pair in pairs]
    given = task(exact_noise, differ)
    assert given.logit_difference().take(8).values == pytest.approx(
        [Plain(exact_noise).difference(prompt) for prompt in given.prompts(8)], abs=5e-6
    )


def test_words_that_the_tokenizer_lacks_are_told(exact_mini):
    pairs = [pair | {"clean": pair["clean"].replace("The", "Zyx")} for pair in capitals()]
    assert "its tokenizer does not know all words of 'Zyx capital of" in said(task(exact_mini, pairs))
    assert "the answer 'Zyx' is no word of this tokenizer" in said(
        task(exact_mini, [pair | {"answer": "Zyx"} for pair in capitals()])
    )


def test_a_prompt_that_is_too_long_is_told(exact_mini):
    pairs = [pair | {"clean": "The " * 200 + pair["clean"]} for pair in capitals()]
    assert "tokens, and the model reads" in said(task(exact_mini, pairs))


def test_answers_may_stand_right_behind_the_text(exact_noise):
    pairs = [{"clean": f"{i} (", "corrupted": f"{i} [[", "answer": "A", "foil": " B"} for i in range(8)]
    given, tokenizer = task(exact_noise, pairs, space=False), exact_noise.tokenizer
    (batch,) = given.batches(given.prompts(8))
    assert batch.answers[0].tolist() == [tokenizer("A").input_ids[0], tokenizer(" B").input_ids[0]]
    (spaced,) = task(exact_noise, pairs).batches(given.prompts(8))
    assert torch.equal(spaced.answers[0], torch.tensor([tokenizer(" A").input_ids[0], tokenizer(" B").input_ids[0]]))
