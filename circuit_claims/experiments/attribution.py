"""Attribution on one prompt: what every part of the model writes for the answer, or what patching it would win back.

    cc.attribute(model, "When Mary and John went to the store, John gave a drink to", " Mary", foil=" John")
    cc.attribute(model, clean, " Mary", foil=" John", corrupted=other, method="attribution-patching")

Direct logit attribution (Elhage et al. 2021) and attribution patching (Nanda 2023), as
`circuit_claims.tasks.operations.direct_attribution` and `.attribution_patching` measure them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Float

from circuit_claims.experiments import drawing
from circuit_claims.experiments.answers import Answers, read_answers
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.one_prompt import CORRUPTED, OnePrompt
from circuit_claims.experiments.provenance import Provenance
from circuit_claims.experiments.reading import Prompt, read_prompt, token_of
from circuit_claims.experiments.result import Result
from circuit_claims.heads import Head, head_labels, layer_labels
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE
from circuit_claims.tasks.operations.head_parts import BLOCKS, Block

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

Method = Literal["direct", "attribution-patching"]


@dataclass(frozen=True, repr=False, eq=False)
class AttributionResult(Result):
    """What heads add to `quantity`, in logits; the subclasses have the other parts."""

    name: ClassVar[str] = "attribute"

    answers: Answers
    quantity: str
    heads: Float[np.ndarray, "layer head"]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Hints, if any."""
        return self.answers.hints

    def largest(self, n: int = 3) -> list[tuple[Head, float]]:
        """The heads that count most, whatever their sign, the largest first."""
        order = np.argsort(-np.abs(self.heads), axis=None, kind="stable")[:n]
        found = [Head(*map(int, np.unravel_index(i, self.heads.shape))) for i in order]
        return [(head, float(self.heads[head])) for head in found]

    @property
    def _told(self) -> str:
        return ", ".join(f"{head} {value:+.3g}" for head, value in self.largest())


@dataclass(frozen=True, repr=False, eq=False)
class DirectResult(AttributionResult):
    """Direct logit attribution at END: embedding, attention and MLPs and the constant add up to `total`, in logits.

    attention: of each layer, its bias included; heads: without biases. constant: what no part writes (the biases of the final
    norm and of the unembedding). total: logit(answer) − logit(foil), or without a foil, logit(answer) less the mean logit.
    """

    embedding: float
    attention: Float[np.ndarray, " layer"]
    mlp: Float[np.ndarray, " layer"]
    constant: float
    total: float

    @property
    def sentence(self) -> str:
        """What it comes to, and the heads that count most."""
        parts = f"attention {self.attention.sum():+.3g}, MLPs {self.mlp.sum():+.3g}, embedding {self.embedding:+.3g}"
        return f"The {self.quantity} is {self.total:.3g} logits ({parts}); the heads that count most: {self._told}."

    def numbers(self) -> dict[str, Any]:
        """All parts, in logits."""
        return {
            "method": "direct",
            "answer": self.answers.right,
            "foil": self.answers.foil,
            "quantity": self.quantity,
            "unit": "logits",
            "total": self.total,
            "embedding": self.embedding,
            "heads": self.heads,
            "attention_layers": self.attention,
            "mlp_layers": self.mlp,
            "constant": self.constant,
        }

    def figure(self) -> "Figure":
        """Layer × head, and beside it what each layer's attention and MLP write."""
        n_layers, n_heads = self.heads.shape
        text = self.provenance.prompts["prompt"].text
        title = f"Direct logit attribution on {self.provenance.subject}: {text!r}. {self.sentence}"
        with drawing.settings():
            figure, axes = drawing.sheet([drawing.wide_for(n_heads), 3.4], drawing.high_for(n_layers), title)
            labels = {"rows": layer_labels(n_layers), "columns": head_labels(n_heads), "names": ("layer", "head")}
            drawing.grid(axes[0], self.heads, "heads", unit="logits", **labels)
            places = np.arange(n_layers)
            axes[1].barh(places - 0.2, self.attention, 0.4, label="attention, with its bias")
            axes[1].barh(places + 0.2, self.mlp, 0.4, label="MLP")
            axes[1].barh([-1], [self.embedding], 0.4, color="0.5")
            ticks = [-1, *range(0, n_layers, -(-n_layers // drawing.MOST_LABELS))]
            axes[1].set_yticks(ticks, ["embedding", *(f"L{layer}" for layer in ticks[1:])], fontsize=7)
            axes[1].set(title="layers", xlabel="logits", ylim=(n_layers - 0.5, -1.6))
            axes[1].axvline(0, color="black", linewidth=0.5)
            figure.legend(fontsize=7, loc="outside lower right", ncols=2, frameon=False)
        return figure


@dataclass(frozen=True, repr=False, eq=False)
class AttributionPatchingResult(AttributionResult):
    """To first order, what each patch clean into corrupted wins back of the logit difference, in logits.

    heads: outputs, added up over all positions; blocks: by what each layer has at one position. clean, corrupted: the two
    prompts' logit differences, of which the estimates are no sum.
    """

    blocks: Mapping[Block, Float[np.ndarray, "layer pos"]]
    clean: float
    corrupted: float

    @property
    def sentence(self) -> str:
        """What the two prompts give, and the heads that count most."""
        return (
            f"The {self.quantity} is {self.clean:.3g} on the clean prompt and {self.corrupted:.3g} on the corrupted one; to "
            f"first order, the heads that win back or cost most: {self._told} logits."
        )

    def numbers(self) -> dict[str, Any]:
        """All estimates, in logits."""
        return {
            "method": "attribution-patching",
            "answer": self.answers.right,
            "foil": self.answers.foil,
            "quantity": self.quantity,
            "unit": "logits",
            "clean": self.clean,
            "corrupted": self.corrupted,
            "heads": self.heads,
            **self.blocks,
        }

    def figure(self) -> "Figure":
        """Layer × head, and layer × position of what each layer reads and writes."""
        n_layers, n_heads = self.heads.shape
        clean, corrupted = (self.provenance.prompts[name].tokens for name in ("prompt", "corrupted"))
        differ = [i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b]
        tokens = drawing.token_labels([token.text for token in clean], differ)
        title = f"Attribution patching on {self.provenance.subject}. {self.sentence} *: differs."
        with drawing.settings():
            widths = [drawing.wide_for(n_heads), *([drawing.wide_for(len(tokens))] * len(self.blocks))]
            figure, axes = drawing.sheet(widths, drawing.high_for(n_layers), title)
            common: dict[str, Any] = {"rows": layer_labels(n_layers), "unit": "logits"}
            drawing.grid(
                axes[0], self.heads, "heads, all positions", columns=head_labels(n_heads), names=("layer", "head"), **common
            )
            for panel, (site, cells) in zip(axes[1:], self.blocks.items(), strict=True):
                drawing.grid(panel, cells, BLOCKS[site], columns=tokens, names=("", "position"), **common)
        return figure


def attribute(
    model: Subject,
    prompt: str,
    answer: str | None = None,
    *,
    foil: str | None = None,
    corrupted: str | None = None,
    method: Method = "direct",
    prepend_bos: bool | None = None,
    first_token: bool = False,
) -> DirectResult | AttributionPatchingResult:
    """Direct logit attribution of one prompt, or attribution patching from it into a corrupted one of as many tokens.

    answer: the model's own where there is none. foil: another answer; without it, direct attribution is of the answer's logit
    less the mean over the vocabulary. Attribution patching needs foil and corrupted.

    Raises ExperimentError, with one sentence, where something cannot be read, or is missing for the method.
    """
    if method not in get_args(Method):
        raise ExperimentError(f"unknown method {method!r}: use one of {', '.join(get_args(Method))}")
    patching = method == "attribution-patching"
    if patching and (corrupted is None or foil is None):
        raise ExperimentError(
            "attribution patching estimates what a patch wins back of a logit difference: give a corrupted prompt "
            "(--corrupted) and another answer (--foil)"
        )
    if not patching and corrupted is not None:
        raise ExperimentError(
            "direct attribution is of one prompt: leave out --corrupted, or say --method attribution-patching"
        )
    read = read_prompt(model, prompt, prepend_bos)
    answers = read_answers(model, read, answer, foil, first=first_token)
    prompts = {"prompt": read}
    if corrupted is not None:
        prompts["corrupted"] = read_prompt(model, corrupted, read.prepend_bos)
    common: dict[str, Any] = {
        "provenance": Provenance.of(model, prompts, answer=answer, foil=foil, method=method, first_token=first_token),
        "answers": answers,
        "quantity": f"logit of {answers.right} above the mean" if answers.foil is None else answers.quantity,
    }
    if patching:
        task = OnePrompt.of(model, read, corrupted=prompts["corrupted"], answer=answers.right, foil=answers.foil)
        return _patched(task, common)
    return _direct(model, read, answers, common)


def _direct(model: Subject, read: Prompt, answers: Answers, common: dict[str, Any]) -> DirectResult:
    right, foil = answers.right, answers.foil
    with torch.inference_mode():
        logits = model.last_logits(torch.tensor([read.ids], device=model.device))[0].double()
    # Whether logits are linear is measured by two tokens' difference: the answer's, and the likeliest other one's.
    second = next(i for i in logits.topk(2).indices.tolist() if i != right.id)
    task = OnePrompt.of(model, read, answer=right, foil=foil or token_of(model, second)).judged_by(LOGIT_DIFFERENCE)
    found = task.direct_attribution(to="IO" if foil is None else "logit difference")
    parts, total = found.parts().take(1).values[0, :, 0], float(logits[right.id])
    total -= float(logits.mean()) if foil is None else float(logits[foil.id])
    return DirectResult(
        heads=found.heads().take(1).values[0],
        embedding=float(parts[0]),
        attention=parts[1::2],
        mlp=parts[2::2],
        constant=total - float(parts.sum()),
        total=total,
        **common,
    )


def _patched(task: OnePrompt, common: dict[str, Any]) -> AttributionPatchingResult:
    heads = task.attribution_sweep(corruption=CORRUPTED).take(1)
    blocks = {site: task.residual_attribution_sweep(site=site, corruption=CORRUPTED).take(1).values[0] for site in BLOCKS}
    clean = float(task.baseline().take(1).values[0])
    whole = float(task.baseline(CORRUPTED).take(1).values[0])
    return AttributionPatchingResult(
        heads=heads.values[0], blocks=cast(Any, blocks), clean=clean, corrupted=clean - whole, **common
    )
