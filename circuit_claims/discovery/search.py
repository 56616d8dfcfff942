"""The search for a card: what matters most first, written after every step, and ended between two where time is over.

First what the model does, then the families, then the values and tables that the claims on these families ask for, then the
chapters. What was found is on disk after each step, and a search that was stopped leaves an unfinished card (see `unfinished`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from circuit_claims.cards.card import Card
from circuit_claims.cards.settings import CardSettings
from circuit_claims.discovery import card_text, chapters, families, family_search, missing_families, tables, unfinished, values
from circuit_claims.discovery.families import Found
from circuit_claims.discovery.findings import Findings, without_empty_bounds
from circuit_claims.discovery.survey import Survey
from circuit_claims.discovery.unfinished import Done

#: The parts of a card that come before the families, since they need none; and all, in the order in which they are written.
FIRST = ("behaviour",)
PARTS = values.PARTS | tables.PARTS
At = Callable[[str], None]


def steps(chapter_names: Sequence[str]) -> list[str]:
    """All steps of a search, in its order."""
    return [*FIRST, *family_search.STEPS, *(part for part in PARTS if part not in FIRST), *chapter_names]


@dataclass(frozen=True)
class About:
    """What a card says of itself and of the search."""

    title: str
    models: tuple[str, ...]
    source: str
    provenance: str
    versions: str
    settings: CardSettings


@dataclass
class Search:
    """A search for the card at `path`: what has been done of it, and what is left.

    unfinished: where the card stands until it is finished; written: how much was done when it was last written.
    """

    survey: Survey
    path: Path
    unfinished: Path
    about: About
    chapters: tuple[str, ...]
    done: Done
    found: dict[str, Found] | None = None
    written: int = -1

    def run(self, at: At) -> None:
        """Everything that is not done yet.

        at: told which step begins; what was found before is on disk by then. What it raises ends the search.
        """

        def begin(step: str) -> None:
            self.write()
            at(step)

        for part in FIRST:
            self._part(part, self._card({}), begin)
        self.found = family_search.find(self.survey, begin)
        card = self._card(self.found)
        for part in PARTS:
            self._part(part, card, begin)
        for chapter in self.chapters:
            if chapter not in self.done.chapters:
                begin(chapter)
                self.done.chapters[chapter] = self._chapter(chapter, card)
        self.write()

    def missing(self) -> list[str]:
        """The steps that are not done."""
        known = {*family_search.STEPS} - {*family_search.steps_left(self.survey)}
        done = {*self.done.parts, *self.done.chapters} | known
        return [step for step in steps(self.chapters) if step not in done]

    def families(self) -> dict[str, Found]:
        """The families that were found, so far."""
        return family_search.found_so_far(self.survey) if self.found is None else self.found

    def lacking(self) -> list[str]:
        """Why the model has not a family of the literature, a sentence each; of those of which that is known so far."""
        task, scores = self.survey.task_so_far, family_search.scores_so_far(self.survey)
        if task is None:
            return []
        return list(missing_families.missing(scores, self.families(), shows_the_task=task[1]).values())

    def write(self) -> None:
        """Write what there is: the card where it is finished, and else the unfinished one, unless nothing is new.

        Raises CardError where it would not be read back, and OSError where it cannot be written.
        """
        if len(self.done) == self.written:
            return
        missing, done = self.missing(), self.done
        shape = (self.survey.ioi.subject.transformer.n_layers, self.survey.ioi.subject.transformer.n_heads)
        text = card_text.card_text(
            title=self.about.title,
            models=self.about.models,
            shape=shape,
            found=self.families(),
            findings={part: done.parts[part] for part in PARTS if part in done.parts},
            source=self.about.source,
            provenance=self.about.provenance,
            settings=self.about.settings,
            lacking=self.lacking(),
            unfinished=unfinished.text(done, missing, self.about.versions) if missing else "",
        )
        card_text.write(self.unfinished if missing else self.path, text, done.chapters)
        self.written = len(done)
        if not missing and self.unfinished != self.path:
            unfinished.remove(self.unfinished)

    def _card(self, found: dict[str, Found]) -> Card:
        model, title, models = self.survey.ioi.subject.transformer, self.about.title, self.about.models
        blank = Card(models[0], title, models, model.n_layers, model.n_heads, families={}, values={})
        return families.circuit_card(blank, found, self.about.source)

    def _part(self, part: str, card: Card, begin: At) -> None:
        if part in self.done.parts:
            return
        begin(part)
        findings = without_empty_bounds(PARTS[part](self.survey, card), (card.n_layers, card.n_heads))
        self.done.parts[part] = card_text.part_text(part, findings, self.about.source)

    def _chapter(self, name: str, card: Card) -> str:
        there, shape = chapters.find(name, self.survey, card), (card.n_layers, card.n_heads)
        kept: dict[str, Findings] = {part: without_empty_bounds(of_part, shape) for part, of_part in there.findings.items()}
        it = replace(there, findings=kept)
        return card_text.chapter_text(
            title=f"{self.about.title}, {name}",
            found=it.families,
            findings=it.findings,
            source=self.about.source,
            provenance=self.about.provenance,
            settings=it.settings,
        )
