"""The files of the four tasks are what their generators write, and hold what they say."""

import re
from collections import Counter

import pytest

from circuit_claims.embedded import embedded
from circuit_claims.prompts.contrasts.marks import read_marks
from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.published_tasks import gendered_pronouns, subject_verb_agreement, two_digit_addition
from circuit_claims.prompts.published_tasks.__main__ import TASKS, main
from circuit_claims.prompts.published_tasks.pair import Pair


def texts(pair: Pair) -> tuple[str, str]:
    return read_marks(pair.clean)[0], read_marks(pair.corrupted)[0]


def test_the_files_are_written_anew_byte_by_byte(tmp_path):
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in embedded("pairs").iterdir()}
    for name in TASKS:
        assert (tmp_path / f"{name}.csv").read_bytes() == embedded("pairs", f"{name}.csv").read_bytes(), name


@pytest.mark.parametrize(
    ("task", "pairs", "clusters", "roles"),
    [
        ("subject_verb_agreement", 320, 40, ("noun", "attractor")),
        ("gendered_pronouns", 200, 20, ("name", "is")),
        ("docstrings", 240, 40, ("A_def", "B_def", "C_def", "D_def", "A_doc", "B_doc")),
        ("two_digit_addition", 320, 80, ("first", "plus", "second")),
    ],
)
def test_a_file_is_read_as_what_it_was_written_from(task, pairs, clusters, roles):
    read = Contrasts.of(embedded("pairs", f"{task}.csv"))
    assert (len(read), len(set(read.table.clusters)), read.table.roles) == (pairs, clusters, roles)
    written = list(TASKS[task]())
    assert read.table.left_out == 0 and [read.prompt(i).text for i in range(pairs)] == [texts(pair)[0] for pair in written]
    assert [read.prompt(i).corrupted_text for i in range(pairs)] == [texts(pair)[1] for pair in written]
    assert [read.prompt(i).answers for i in range(pairs)] == [(pair.answer, pair.foil) for pair in written]
    halves = [Contrasts.of(embedded("pairs", f"{task}.csv"), half=half) for half in ("discovery", "verdict")]
    assert sum(map(len, halves)) == pairs and abs(len(halves[0]) - len(halves[1])) <= pairs / clusters


@pytest.mark.parametrize("task", TASKS)
def test_answers_and_foils_are_equally_often_either(task):
    """A model that prefers one answer whatever it reads is right on half of the pairs."""
    answers, foils = (Counter(column) for column in list(zip(*TASKS[task](), strict=True))[2:4])
    if task == "docstrings":  # foils are drawn
        assert set(answers) == set(foils) and set(answers.values()) == {6}
    else:
        assert answers == foils


def test_the_noun_in_between_says_nothing_of_the_verb():
    found = Counter()
    for pair in subject_verb_agreement.pairs():
        noun, between = (text.endswith("s") for text in subject_verb_agreement.MARKED.findall(pair.clean))
        many = dict(subject_verb_agreement.VERBS).get(pair.answer) != pair.foil
        assert many == noun
        found[noun, between] += 1
    assert set(found.values()) == {80} and len(found) == 4
    other = subject_verb_agreement.with_a_noun_of_the_other_number()
    assert len(other) == 160
    assert other[0].clean == next(p.clean for p in subject_verb_agreement.pairs() if p.clean.endswith("s]"))


def test_only_the_subject_is_in_another_number():
    for pair in subject_verb_agreement.pairs():
        clean, corrupted = (text.split() for text in texts(pair))
        assert clean[2:] == corrupted[2:] and {clean[1], corrupted[1]} == {pair.cluster, f"{pair.cluster}s"}


def test_each_of_the_hundred_published_prompts_stands_in_two_pairs():
    clean = Counter(texts(pair)[0] for pair in gendered_pronouns.pairs())
    assert len(clean) == 100 and set(clean.values()) == {2} and clean["So Lisa is such a funny person, isn't"] == 2
    for pair in gendered_pronouns.pairs():
        other = texts(pair)[1].split()[1]
        assert pair.cluster in gendered_pronouns.NAMES[pair.answer] and other in gendered_pronouns.NAMES[pair.foil]


def test_docstrings_of_both_prompts_have_the_same_words_in_another_order():
    for pair in TASKS["docstrings"]():
        clean, corrupted = texts(pair)
        assert sorted(clean) == sorted(corrupted) and clean.split("\n")[1:] == corrupted.split("\n")[1:]
        assert f"{pair.answer}, {pair.foil})" in clean and f"{pair.foil}, {pair.answer})" in corrupted
        assert re.findall(r"\w+", clean).count(pair.answer) == 1, "the answer stands in the definition alone"


def test_sums_are_right_and_differ_in_their_tens_alone():
    larger = 0
    for pair in two_digit_addition.pairs():
        for text, total in zip(texts(pair), (pair.answer, pair.foil), strict=True):
            first, second = text.removeprefix(two_digit_addition.EXAMPLES).removesuffix("=").split("+")
            assert int(first) + int(second) == int(total) and 10 <= int(first) <= 99 and 10 <= int(second) <= 99
        assert pair.answer[0] != pair.foil[0] and pair.answer[1] == pair.foil[1] and len(pair.foil) == 2
        larger += pair.answer > pair.foil
    assert larger == 160
    assert next(two_digit_addition.pairs(examples="")).clean.startswith("[first: ")
    for example in two_digit_addition.EXAMPLES.split(";")[:-1]:
        terms, total = example.split("=")
        assert sum(map(int, terms.split("+"))) == int(total)
