"""Sentences that count, and circuits kept alone on them: the numerals circuit, and circuits of other tasks as controls.

Source: Lan, Torr and Barez 2024, seqcont_circuits: the logit difference is that of the next numeral and the last one shown; a
circuit is heads and MLPs that are kept at all positions, all others being replaced with their mean over sentences of the same
form with numerals in no order. Those who published percentages had other fillers, and only prompts that GPT-2 answers with
confidence; here the order of the circuits is what is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from circuit_claims.prompts.batch import TokenizationError, make_batches
from circuit_claims.prompts.sequences import THINGS, Counting
from circuit_claims.prompts.word_tokens import inside
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, Metric
from circuit_claims.tasks.operations.circuits import Circuits
from circuit_claims.untested import Untested


@dataclass(frozen=True, repr=False)
class CountingTask(Circuits):
    """Sentences that count, on one subject."""

    #: Sentences of one form that a mean is taken over.
    reference_size: ClassVar[int] = 64

    def own_metric(self) -> Metric:
        """The logit difference of the next numeral and the last one shown."""
        return LOGIT_DIFFERENCE.showing("the next numeral is ahead of the last shown")

    @classmethod
    def of(cls, subject: Subject, *, seed: int, chunk: int, prepend_bos: bool) -> "CountingTask":
        """The task with those names and things that the subject's tokenizer has as one token wherever they stand.

        Raises Untested where it does not know the sentences' words, or has too few fillers.
        """
        names, things = (tuple(word for word in words if _one_token(subject, word)) for words in (subject.names, THINGS))
        population = Counting(names, things)
        task = cls(subject=subject, seed=seed, chunk=chunk, population=population, prepend_bos=prepend_bos)
        try:
            first = [next(replace(population, sentences=(sentence,)).stream(seed)) for sentence in population.sentences]
            batches = make_batches(subject.tokenizer, first, prepend_bos=False)
        except (TokenizationError, ValueError) as error:
            raise Untested(f"sentences that count cannot be put to this subject: {error}") from None
        if any(subject.tokenizer.unk_token_id in batch.tokens for batch in batches if _has_unknowns(subject)):
            raise Untested("this tokenizer does not know the words of the sentences that count: take a subject with GPT-2's")
        return task


def _one_token(subject: Subject, word: str) -> bool:
    """Whether a word is one token at the beginning of a text and within it."""
    tokenizer = subject.tokenizer
    forms: Sequence[list[int]] = [tokenizer(word, add_special_tokens=False).input_ids, inside(tokenizer, f" {word}")]
    return all(len(ids) == 1 and (not _has_unknowns(subject) or ids[0] != subject.tokenizer.unk_token_id) for ids in forms)


def _has_unknowns(subject: Subject) -> bool:
    """Whether the tokenizer has a token for what it does not know; GPT-2's calls its end of text so, and knows everything."""
    tokenizer = subject.tokenizer
    return tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id
