"""Activation patching on a pair of prompts: clean activations in the corrupted prompt, and how much of the answer returns.

    cc.patch(model, "When Mary and John went to the store, John gave a drink to",
             "When Mary and John went to the store, Mary gave a drink to", " Mary", foil=" John")

The sweeps are `residual_sweep` and `head_sweep` of `circuit_claims.tasks.operations.patching`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from circuit_claims.experiments import drawing
from circuit_claims.experiments.answers import Answers, read_answers
from circuit_claims.experiments.one_prompt import CORRUPTED, OnePrompt
from circuit_claims.experiments.provenance import Provenance
from circuit_claims.experiments.reading import position, read_prompt
from circuit_claims.experiments.result import Result
from circuit_claims.heads import Head, head_labels, layer_labels
from circuit_claims.subjects.subject import Subject

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class PatchResult(Result):
    """What each patch wins back: the score of the corrupted prompt with the patch minus the score without.

    answers: what is scored. resid: the stream before each layer at each position; heads: each head's output at the position
    `at`. clean, corrupted: the scores of the two prompts, both of the clean prompt's answer.
    """

    name: ClassVar[str] = "patch"

    answers: Answers
    clean: float
    corrupted: float
    resid: Float[np.ndarray, "layer pos"]
    heads: Float[np.ndarray, "layer head"]
    at: int

    @property
    def total_effect(self) -> float:
        """Clean minus corrupted score: what 1 is a share of."""
        return self.clean - self.corrupted

    def recovery(self, effects: Float[np.ndarray, "layer column"]) -> Float[np.ndarray, "layer column"] | None:
        """Effects as shares of the total one; None where the corruption costs nothing."""
        return effects / self.total_effect if self.total_effect > 0 else None

    def best_head(self) -> Head:
        """The head that wins back most."""
        layer, head = np.unravel_index(self.heads.argmax(), self.heads.shape)
        return Head(int(layer), int(head))

    @property
    def sentence(self) -> str:
        """What the two prompts give, and which head wins back most."""
        head, at = self.best_head(), self.provenance.prompts["clean"].tokens[self.at]
        won, share = float(self.heads[head]), self.recovery(self.heads)
        of_it = "" if share is None else f" ({share[head]:.0%})"
        scores = f"{self.clean:.3g} on the clean prompt and {self.corrupted:.3g} on the corrupted one"
        best = f"of single heads at {at} (position {self.at}), {head} wins back most: {won:.3g}{of_it}"
        return f"The {self.answers.quantity} is {scores}; {best}."

    @property
    def remarks(self) -> Sequence[str]:
        """Hints, and that there is nothing to win back where the corruption costs nothing."""
        nothing = "the corruption costs nothing of the answer, so that what is won back says little"
        return self.answers.hints if self.total_effect > 0 else (*self.answers.hints, nothing)

    def numbers(self) -> dict[str, Any]:
        """All of it; effects in the unit, and as shares of the total effect."""
        return {
            "answer": self.answers.right,
            "foil": self.answers.foil,
            "quantity": self.answers.quantity,
            "unit": self.answers.unit,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "total_effect": self.total_effect,
            "residual_stream": {"effects": self.resid, "recovery": self.recovery(self.resid)},
            "heads": {"position": self.at, "effects": self.heads, "recovery": self.recovery(self.heads)},
        }

    def figure(self) -> "Figure":
        """Layer × position of the stream, and layer × head."""
        clean, corrupted = (self.provenance.prompts[name].tokens for name in ("clean", "corrupted"))
        differ = [i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b]
        columns = drawing.token_labels([token.text for token in clean], differ)
        layers, n_heads = layer_labels(len(self.heads)), self.heads.shape[1]
        title = f"Activation patching on {self.provenance.subject}, clean into corrupted. {self.sentence} *: differs."
        unit = f"won back, {self.answers.unit} (all: {self.total_effect:.3g})"
        with drawing.settings():
            widths = [drawing.wide_for(len(clean)), drawing.wide_for(n_heads)]
            figure, axes = drawing.sheet(widths, drawing.high_for(len(layers)), title)
            stream = {"rows": layers, "columns": columns, "names": ("before layer", "position"), "unit": unit}
            drawing.grid(axes[0], self.resid, "residual stream", **stream)
            where = f"heads at {drawing.shown(clean[self.at].text)} {self.at}"
            heads = {"rows": layers, "columns": head_labels(n_heads), "names": ("layer", "head"), "unit": unit}
            drawing.grid(axes[1], self.heads, where, **heads)
        return figure


def patch(
    model: Subject,
    clean: str,
    corrupted: str,
    answer: str | None = None,
    *,
    foil: str | None = None,
    at: str | int = "END",
    prepend_bos: bool | None = None,
    first_token: bool = False,
) -> PatchResult:
    """Activation patching from a clean prompt into a corrupted one of as many tokens.

    answer: the clean prompt's answer; None for the model's own. foil: another answer, so that the difference of the two logits
    is measured, and not the answer's probability. at: where heads are patched: "END", a position's number, or a word of the
    clean prompt (its last token).

    Raises ExperimentError, with one sentence, where something cannot be read, or the prompts differ in length.
    """
    read = read_prompt(model, clean, prepend_bos)
    other = read_prompt(model, corrupted, read.prepend_bos)
    answers = read_answers(model, read, answer, foil, first=first_token)
    where = position(read, at)
    task = OnePrompt.of(model, read, corrupted=other, answer=answers.right, foil=answers.foil, at=where)
    resid = task.residual_sweep(corruption=CORRUPTED).take(1)
    heads = task.head_sweep(at="AT", corruption=CORRUPTED).take(1)
    clean_score = float(task.baseline().take(1).values[0])
    whole = float(task.baseline(CORRUPTED).take(1).values[0])
    return PatchResult(
        provenance=Provenance.of(
            model, {"clean": read, "corrupted": other}, answer=answer, foil=foil, at=at, first_token=first_token
        ),
        answers=answers,
        clean=clean_score,
        corrupted=clean_score - whole,
        resid=resid.values[0],
        heads=heads.values[0],
        at=where,
    )
