"""The logit lens on one prompt: what the model would answer after each layer (nostalgebraist 2020).

    cc.logit_lens(model, "Water is made of hydrogen and", " oxygen").crossover_layer

Each stream is put through the final norm and the unembedding, as `circuit_claims.tasks.operations.logit_lens` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from circuit_claims.experiments import drawing
from circuit_claims.experiments.answers import read_answers
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.provenance import Provenance
from circuit_claims.experiments.reading import Token, read_prompt, token_of
from circuit_claims.experiments.result import Result
from circuit_claims.heads import layer_labels
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import as_array

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

#: The most tokens by layer that are listed.
MOST_TOP = 20


@dataclass(frozen=True, repr=False, eq=False)
class EveryPosition:
    """The lens at every position. Depths are as for `LogitLensResult`."""

    top_tokens: tuple[tuple[Token, ...], ...]
    top_probabilities: Float[np.ndarray, "depth pos"]
    target_probability: Float[np.ndarray, "depth pos"]


@dataclass(frozen=True, repr=False, eq=False)
class LogitLensResult(Result):
    """What the logit lens reads at END. Depth 0 is the embeddings, depth i + 1 what is there after layer i.

    target: the token that was asked for, or the model's own answer; rank: 1 where it is the likeliest token. top_tokens: the
    likeliest tokens of each depth, best first, with their probabilities. everywhere:
    the same at all positions, where asked for.
    """

    name: ClassVar[str] = "lens"

    target: Token
    given: bool
    probability: Float[np.ndarray, " depth"]
    rank: Int[np.ndarray, " depth"]
    on_top: Bool[np.ndarray, " depth"]
    top_tokens: tuple[tuple[Token, ...], ...]
    top_probabilities: Float[np.ndarray, "depth k"]
    everywhere: EveryPosition | None = None
    hints: tuple[str, ...] = ()

    @property
    def crossover_layer(self) -> int | None:
        """The first layer, from 0, after which the target is the likeliest token; None where it never is."""
        layers = self.on_top[1:]
        return int(layers.argmax()) if layers.any() else None

    @property
    def depths(self) -> list[str]:
        """What the depths are called."""
        return ["embedding", *layer_labels(len(self.probability) - 1)]

    @property
    def sentence(self) -> str:
        """After which layer the target comes on top, and what becomes of it."""
        layers, at = len(self.probability) - 1, self.crossover_layer
        end = f"ends with probability {self.probability[-1]:.3g} at rank {self.rank[-1]}"
        what = f"{self.target}" if self.given else f"the model's own answer {self.target}"
        if at is None:
            top = f"{self.top_tokens[-1][0]} ({self.top_probabilities[-1, 0]:.3g})"
            return f"{what} is the likeliest token after none of the {layers} layers; it {end}, below {top}."
        return f"{what} is the likeliest token first after layer {at} (of 0 to {layers - 1}); it {end}."

    @property
    def remarks(self) -> Sequence[str]:
        """Hints, if any."""
        return self.hints

    def numbers(self) -> dict[str, Any]:
        """All of it, by depth."""
        found = {
            "target": self.target,
            "target_is": "as given" if self.given else "the model's own answer",
            "crossover_layer": self.crossover_layer,
            "depths": self.depths,
            "target_probability": self.probability,
            "target_rank": self.rank,
            "target_on_top": self.on_top,
            "top_tokens": self.top_tokens,
            "top_probabilities": self.top_probabilities,
        }
        if self.everywhere is not None:
            found["everywhere"] = {
                "top_tokens": self.everywhere.top_tokens,
                "top_probabilities": self.everywhere.top_probabilities,
                "target_probability": self.everywhere.target_probability,
            }
        return found

    def figure(self) -> "Figure":
        """The likeliest tokens by layer, the target's probability and rank; and with all positions, the table of them."""
        with drawing.settings():
            return self._drawn()

    def _drawn(self) -> "Figure":
        depth, k = self.top_probabilities.shape
        prompt, table = self.provenance.prompts["prompt"], self.everywhere
        widths = [0.75 * k + drawing.BESIDE, 1.6, 1.3]
        widths += [] if table is None else [0.62 * len(prompt) + drawing.BESIDE]
        title = f"Logit lens on {self.provenance.subject}: {prompt.text!r}. {self.sentence}"
        figure, axes = drawing.sheet(widths, drawing.high_for(depth), title)
        common: dict[str, Any] = {"rows": self.depths, "unit": "probability", "reach": 1.0, "signed": False}
        listed = [list(zip(*row, strict=True)) for row in zip(self.top_tokens, self.top_probabilities, strict=True)]
        drawing.grid(
            axes[0],
            self.top_probabilities,
            "likeliest tokens at END",
            columns=[str(i + 1) for i in range(k)],
            names=("after", ""),
            words=[[f"{drawing.shown(token.text, 9)} {p:.2f}" for token, p in row] for row in listed],
            bar=False,
            upright=True,
            **common,
        )
        self._curve(axes[1], self.probability, "probability", (-0.03, 1.03))
        self._curve(axes[2], self.rank, "rank", None)
        if table is not None:
            drawing.grid(
                axes[3],
                table.top_probabilities,
                "likeliest token at each position",
                columns=drawing.token_labels([token.text for token in prompt.tokens]),
                names=("", ""),
                words=[[drawing.shown(token.text, 9) for token in row] for row in table.top_tokens],
                **common,
            )
        return figure

    def _curve(self, axes: Any, values: np.ndarray, what: str, limits: tuple[float, float] | None) -> None:
        """A quantity of the target by depth, with depths downwards as in the table beside it."""
        from matplotlib.ticker import NullLocator

        axes.plot(values, range(len(values)), marker="o", markersize=2.5, linewidth=1)
        axes.set(title=f"{what} of {drawing.shown(self.target.text)}", xlabel=what, ylim=(len(values) - 0.5, -0.5))
        if limits is None:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.0f}")  # its own are formulas
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlim(max(2, values.max()) * 1.5, 0.7)
        else:
            axes.set_xlim(*limits)
        axes.set_yticks([])
        axes.grid(axis="x", linewidth=0.3)
        if self.crossover_layer is not None:
            axes.axhline(self.crossover_layer + 1, color="tab:red", linewidth=0.8, linestyle="--")


def logit_lens(
    model: Subject,
    prompt: str,
    target: str | None = None,
    *,
    prepend_bos: bool | None = None,
    top: int = 5,
    all_positions: bool = False,
    first_token: bool = False,
) -> LogitLensResult:
    """What the model would answer after each layer of one prompt.

    target: the token that is followed, with the space before it; None for the model's own answer. prepend_bos: None is as the
    model was loaded. top: how many of the likeliest tokens are listed. all_positions: at every position too. first_token: a
    target of several tokens is followed by its first.

    Raises ExperimentError, with one sentence, where prompt or target cannot be read.
    """
    if not 1 <= top <= MOST_TOP:
        raise ExperimentError(f"top must be from 1 to {MOST_TOP}, and is {top}")
    read = read_prompt(model, prompt, prepend_bos)
    asked = read_answers(model, read, target, None, first=first_token, called="target")
    tokens = torch.tensor([read.ids], device=model.device)
    engine, followed = model.transformer, asked.right.id
    with torch.inference_mode():
        streams = model.run(tokens).resid[:, 0]
        probability, rank, on_top, best, likely, everywhere = [], [], [], [], [], []
        for stream in streams:  # one after the other: logits of the whole vocabulary are large
            logits = engine.logits(stream if all_positions else stream[-1:]).float()
            ps = logits.softmax(-1)
            probability.append(float(ps[-1, followed]))
            rank.append(1 + int((logits[-1] > logits[-1, followed]).sum()))
            on_top.append(int(logits[-1].argmax()) == followed)
            highest = ps[-1].topk(top)
            best.append(tuple(token_of(model, i) for i in highest.indices.tolist()))
            likely.append(as_array(highest.values))
            if all_positions:
                first = ps.max(-1)
                everywhere.append((first.indices.tolist(), as_array(first.values), as_array(ps[:, followed])))
    return LogitLensResult(
        provenance=Provenance.of(model, {"prompt": read}, target=target, top=top, first_token=first_token),
        target=asked.right,
        given=target is not None,
        probability=np.array(probability),
        rank=np.array(rank),
        on_top=np.array(on_top),
        top_tokens=tuple(best),
        top_probabilities=np.stack(likely),
        everywhere=None
        if not all_positions
        else EveryPosition(
            tuple(tuple(token_of(model, i) for i in ids) for ids, _, _ in everywhere),
            np.stack([values for _, values, _ in everywhere]),
            np.stack([values for _, _, values in everywhere]),
        ),
        hints=asked.hints,
    )
