"""Attention patterns of one prompt.

    cc.attention(model, "When Mary and John went to the store, John gave a drink to", heads=["L9H9"])

With heads, their patterns token by token; without, where every head attends to from END.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int

from circuit_claims.experiments import drawing
from circuit_claims.experiments.provenance import Provenance
from circuit_claims.experiments.reading import read_head, read_prompt
from circuit_claims.experiments.result import Result
from circuit_claims.heads import Head, head_labels, layer_labels
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.metric import as_array

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

#: Patterns side by side, and the most tokens whose probabilities are written into the cells.
SIDE_BY_SIDE, WRITTEN = 3, 24


@dataclass(frozen=True, repr=False, eq=False)
class AttentionResult(Result):
    """Attention probabilities. from_end: of every head from the last token; patterns: of the heads that were named."""

    name: ClassVar[str] = "attention"

    from_end: Float[np.ndarray, "layer head key"]
    patterns: Mapping[Head, Float[np.ndarray, "query key"]]

    def strongest(self, *, but_the_first: bool = False) -> Int[np.ndarray, "layer head"]:
        """The position that each head attends to most from END; but_the_first: of all but the first.

        Heads without a match rest on the first position (the attention sink), which then hides where else they look.
        """
        if not but_the_first or self.from_end.shape[-1] == 1:
            return self.from_end.argmax(-1)
        return 1 + self.from_end[:, :, 1:].argmax(-1)

    def _at(self, keys: Int[np.ndarray, "layer head"]) -> Float[np.ndarray, "layer head"]:
        return np.take_along_axis(self.from_end, keys[:, :, None], axis=2)[:, :, 0]

    @property
    def sentence(self) -> str:
        """Where the named heads, or the head with the strongest edge past the first position, attend from END."""
        tokens = self.provenance.prompts["prompt"].tokens
        keys = self.strongest()
        if self.patterns:
            told = [self._from_end(head, int(keys[head])) for head in self.patterns]
            return "; ".join(told) + "."
        keys = self.strongest(but_the_first=True)
        probabilities = self._at(keys)
        best = Head(*map(int, np.unravel_index(probabilities.argmax(), probabilities.shape)))
        return (
            f"Of the edges from END past the first position, the strongest is {best}'s to {tokens[keys[best]]} "
            f"(position {keys[best]}): {probabilities[best]:.2f}."
        )

    def _from_end(self, head: Head, key: int) -> str:
        token, probability = self.provenance.prompts["prompt"].tokens[key], self.from_end[head][key]
        return f"{head} attends from END most to {token} (position {key}): {probability:.2f}"

    def numbers(self) -> dict[str, Any]:
        """Attention from END of every head, each head's strongest edge, and the patterns that were asked for."""
        edges = {}
        for name, keys in (("strongest", self.strongest()), ("strongest_but_first", self.strongest(but_the_first=True))):
            edges[name] = {"position": keys, "probability": self._at(keys)}
        return {**edges, "from_end": self.from_end, "patterns": {str(head): cells for head, cells in self.patterns.items()}}

    def figure(self) -> "Figure":
        """The patterns of the named heads, or every head's strongest edge from END."""
        with drawing.settings():
            return self._patterns() if self.patterns else self._edges()

    def _patterns(self) -> "Figure":
        tokens = drawing.token_labels([token.text for token in self.provenance.prompts["prompt"].tokens])
        title = f"Attention on {self.provenance.subject}. {self.sentence}"
        beside = min(SIDE_BY_SIDE, len(self.patterns))
        rows = -(-len(self.patterns) // beside)
        cell = 0.34 if len(tokens) <= WRITTEN else drawing.CELL_WIDE
        widths = [drawing.wide_for(len(tokens), cell)] * beside
        figure, axes = drawing.sheet(widths, drawing.high_for(len(tokens)), title, rows=rows)
        for panel, (head, cells) in zip(axes, self.patterns.items(), strict=False):
            words = None
            if len(tokens) <= WRITTEN:
                words = [[f"{p:.2f}".lstrip("0") if p >= 0.05 else "" for p in row] for row in cells]
            drawing.grid(
                panel,
                cells,
                str(head),
                rows=tokens,
                columns=tokens,
                names=("from", "to"),
                unit="attention",
                reach=1.0,
                signed=False,
                words=words,
                bar=False,
            )
        for panel in axes[len(self.patterns) :]:
            panel.set_axis_off()
        return figure

    def _edges(self) -> "Figure":
        tokens = self.provenance.prompts["prompt"].tokens
        n_layers, n_heads, _ = self.from_end.shape
        title = f"Attention from END on {self.provenance.subject}. {self.sentence}"
        cell = 0.66
        widths = [drawing.wide_for(n_heads, cell)] * 2
        figure, axes = drawing.sheet(widths, drawing.high_for(n_layers), title)
        panels = (("strongest edge from END", False), ("strongest edge past the first position", True))
        for panel, (name, but_the_first) in zip(axes, panels, strict=True):
            keys = self.strongest(but_the_first=but_the_first)
            words = [[f"{drawing.shown(tokens[k].text, 8)} {k}" for k in row] for row in keys]
            drawing.grid(
                panel,
                self._at(keys),
                name,
                rows=layer_labels(n_layers),
                columns=head_labels(n_heads),
                names=("layer", "head"),
                unit="attention",
                reach=1.0,
                signed=False,
                words=words,
                bar=but_the_first,
                upright=True,
            )
        return figure


def attention(
    model: Subject, prompt: str, heads: Sequence[str | Head] = (), *, prepend_bos: bool | None = None
) -> AttentionResult:
    """Attention probabilities on one prompt: of every head from END, and whole patterns of the named heads ("L9H9").

    Raises ExperimentError, with one sentence, where the prompt cannot be read or the model has no such head.
    """
    read = read_prompt(model, prompt, prepend_bos)
    named = list(dict.fromkeys(read_head(model, head) for head in heads))
    engine = model.transformer
    from_end, patterns = [], {}
    with torch.inference_mode():
        run = model.run(torch.tensor([read.ids], device=model.device))
        for layer in range(engine.n_layers):
            pattern = as_array(engine.attention(layer, run.resid[layer]).pattern[0])
            from_end.append(pattern[:, -1])
            patterns |= {head: pattern[head.head] for head in named if head.layer == layer}
    return AttentionResult(
        provenance=Provenance.of(model, {"prompt": read}, heads=head_list(named)),
        from_end=np.stack(from_end),
        patterns={head: patterns[head] for head in named},
    )
