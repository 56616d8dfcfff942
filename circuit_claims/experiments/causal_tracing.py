"""Causal tracing of one prompt: corrupt what it is about, put one clean state back, and see how much of the answer returns.

    cc.trace(model, "The Eiffel Tower is in the city of", " Paris", about="The Eiffel Tower")
    cc.trace(model, "The capital of France is", " Paris", foil=" Rome", corrupted="The capital of Italy is")

Source: Meng et al. 2022, section 2; the measuring is that of `circuit_claims.tasks.operations.causal_tracing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import torch
from jaxtyping import Float

from circuit_claims.experiments import drawing
from circuit_claims.experiments.answers import Answers, read_answers
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.one_prompt import OnePrompt
from circuit_claims.experiments.provenance import Provenance
from circuit_claims.experiments.reading import read_prompt, word_positions
from circuit_claims.experiments.result import Result
from circuit_claims.heads import layer_labels
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.operations.causal_tracing import DRAWS, NOISE, Corruption, State

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

STATES: tuple[State, ...] = get_args(State)
#: What is restored, as a panel is called.
CALLED: dict[State, str] = {"resid": "the stream after a layer", "attn_out": "attention outputs", "mlp_out": "MLP outputs"}


@dataclass(frozen=True, repr=False, eq=False)
class TraceResult(Result):
    """What each state restores by itself: the score with the state restored minus the corrupted score.

    answers: what is scored. effects: by state; `resid` is the stream after a layer, outputs are restored in a window of
    `windows` layers round it. Before the first corrupted token all is zero. corrupted_at: positions that were corrupted.
    clean, corrupted: the score without and with the corruption (with noise, averaged over draws).
    """

    name: ClassVar[str] = "trace"

    answers: Answers
    corruption: Corruption
    clean: float
    corrupted: float
    effects: Mapping[State, Float[np.ndarray, "layer pos"]]
    windows: Mapping[State, int]
    corrupted_at: tuple[int, ...]
    noise_deviation: float | None

    @property
    def total_effect(self) -> float:
        """Clean minus corrupted score."""
        return self.clean - self.corrupted

    @property
    def handover_layer(self) -> int | None:
        """The layer, from 0, after which and after all later ones END restores more than the last corrupted token.

        None where that token is END itself, or restores more after the last layer.
        """
        at, stream = self.corrupted_at[-1], self.effects["resid"]
        behind = np.flatnonzero(stream[:, -1] <= stream[:, at])
        first = int(behind[-1]) + 1 if len(behind) else 0
        return first if first < len(stream) else None

    def peak(self, state: State) -> tuple[int, int]:
        """The layer and position where a state restores most."""
        layer, position = np.unravel_index(self.effects[state].argmax(), self.effects[state].shape)
        return int(layer), int(position)

    @property
    def sentence(self) -> str:
        """What the corruption costs, and where in the stream the answer is."""
        tokens, at = self.provenance.prompts["prompt"].tokens, self.corrupted_at[-1]
        here = self.effects["resid"][:, at]
        goes = f"the {self.answers.quantity} goes from {self.clean:.3g} to {self.corrupted:.3g}"
        best = f"at {tokens[at]} (position {at}), the stream after layer {here.argmax()} restores most: {here.max():.3g}"
        handed = self.handover_layer
        over = "" if handed is None else f"; END restores more than that token from layer {handed} on"
        what = "noise" if self.corruption == "noise" else "the other prompt's tokens"
        return f"With {what} at {self._corrupted_words}, {goes}; {best}{over}."

    @property
    def _corrupted_words(self) -> str:
        tokens = self.provenance.prompts["prompt"].tokens
        return ", ".join(f"{tokens[i]} ({i})" for i in self.corrupted_at)

    @property
    def remarks(self) -> Sequence[str]:
        """Hints, and why the numbers may say little: the corruption costs nothing, or is where heads rest their attention."""
        said = list(self.answers.hints)
        if self.total_effect <= 0:
            said.append("the corruption costs nothing of the answer, so that what is restored says little")
        if self.corruption == "noise" and self.corrupted_at[0] == 0:
            said.append(
                "the prompt's first token is corrupted, where heads rest their attention: the noise breaks more than what "
                "its words say; begin the prompt with BOS, or name words without it"
            )
        return said

    def numbers(self) -> dict[str, Any]:
        """All of it; effects by state, layer by layer."""
        return {
            "target": self.answers.right,
            "foil": self.answers.foil,
            "corruption": self.corruption,
            "corrupted_positions": self.corrupted_at,
            "noise_standard_deviation": self.noise_deviation,
            "noise_draws": DRAWS if self.corruption == "noise" else None,
            "quantity": self.answers.quantity,
            "unit": self.answers.unit,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "total_effect": self.total_effect,
            "handover_layer": self.handover_layer,
            "layers_restored_together": self.windows,
            "effects": self.effects,
            "peaks": {state: dict(zip(("layer", "position"), self.peak(state), strict=True)) for state in self.effects},
        }

    def figure(self) -> "Figure":
        """Layer × position, a panel for each state, in one scale of colours."""
        tokens = [token.text for token in self.provenance.prompts["prompt"].tokens]
        columns = drawing.token_labels(tokens, self.corrupted_at)
        layers = layer_labels(len(self.effects["resid"]))
        reach = max(float(np.abs(cells).max()) for cells in self.effects.values()) or 1.0
        title = f"Causal tracing on {self.provenance.subject}. {self.sentence} *: corrupted."
        with drawing.settings():
            widths = [drawing.wide_for(len(tokens))] * len(self.effects)
            figure, axes = drawing.sheet(widths, drawing.high_for(len(layers)), title)
            for panel, (state, cells) in zip(axes, self.effects.items(), strict=True):
                several = "" if self.windows[state] == 1 else f"\n{self.windows[state]} layers together"
                last = panel is axes[-1]
                unit = f"restored, {self.answers.unit} (all: {self.total_effect:.3g})"
                drawing.grid(
                    panel,
                    cells,
                    CALLED[state] + several,
                    rows=layers,
                    columns=columns,
                    names=("layer", ""),
                    unit=unit,
                    reach=reach,
                    bar=last,
                )
        return figure


def trace(
    model: Subject,
    prompt: str,
    target: str | None = None,
    *,
    about: str | None = None,
    corrupted: str | None = None,
    foil: str | None = None,
    prepend_bos: bool | None = None,
    seed: int = 0,
    first_token: bool = False,
) -> TraceResult:
    """Causal tracing of one prompt.

    target: the answer's token; None for the model's own answer. about: the words of the prompt to put noise on, three times as
    wide as their embeddings are spread; or corrupted: another prompt of as many tokens to take them from. foil: another answer,
    so that the difference of the two logits is measured, and not the target's probability. seed: of the noise.

    Raises ExperimentError, with one sentence, where prompts or words cannot be read, or the prompts differ in length.
    """
    if (about is None) == (corrupted is None):
        raise ExperimentError(
            "give either the words of the prompt to corrupt (--about), or another prompt to take their place from (--corrupted)"
        )
    read = read_prompt(model, prompt, prepend_bos)
    answers = read_answers(model, read, target, foil, first=first_token, called="target")
    prompts, where = {"prompt": read}, None
    if corrupted is not None:
        prompts["corrupted"] = read_prompt(model, corrupted, read.prepend_bos)
    else:
        assert about is not None
        where = word_positions(read, about, "--about")
    pair = prompts.get("corrupted")
    task = OnePrompt.of(model, read, corrupted=pair, answer=answers.right, foil=answers.foil, about=where, seed=seed)
    corruption: Corruption = "noise" if pair is None else "interchange"
    if where is not None:
        at = tuple(range(where[0], where[1] + 1))
    else:
        assert pair is not None
        at = tuple(i for i, (a, b) in enumerate(zip(read.ids, pair.ids, strict=True)) if a != b)
    swept = range(at[0], len(read))  # nothing before the first corrupted token is changed
    effects: dict[State, np.ndarray] = {}
    with torch.inference_mode():
        batch = task.batch()
        clean, whole = float(task.value_of(batch)[0]), 0.0
        for state in STATES:
            found, wholes = task.effects_at(batch, state, corruption, swept)
            effects[state] = np.zeros((model.transformer.n_layers, len(read)))
            effects[state][:, at[0] :], whole = found[0].T, float(wholes[0])
    return TraceResult(
        provenance=Provenance.of(model, prompts, seed, target=target, foil=foil, about=about, first_token=first_token),
        answers=answers,
        corruption=corruption,
        clean=clean,
        corrupted=clean - whole,
        effects=effects,
        windows={state: task.window(state) for state in STATES},
        corrupted_at=at,
        noise_deviation=NOISE * task.spread if pair is None else None,
    )
