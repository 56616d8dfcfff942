"""Figures of sparse autoencoders for the report's feature page: dashboards of features, and panels of an autoencoder's numbers.

Builtins alone, as rows hold them. Numbers are rounded to five digits: nobody reads more off a figure, and journals stay small.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from circuit_claims.sae.concepts import Marks

if TYPE_CHECKING:
    from circuit_claims.sae.features import SaeFeatures
    from circuit_claims.sae.metrics import SaeNumbers

#: Bars of a histogram of activations.
BINS = 30
#: Contexts of the strongest activations, and of such as are nearest to half of the strongest; tokens shown on either side.
STRONGEST, MIDDLE, BESIDE = 8, 3, 12
#: Tokens whose logits a feature raises most, and as many that it lowers most.
WEIGHTS = 10
#: Bars a decade in the histogram of firing rates.
PER_DECADE = 5
#: Of L0's histogram, at most.
L0_BARS = 60


def dashboard(features: "SaeFeatures", feature: int, meaning: str, threshold: float = 0.0) -> dict[str, Any]:
    """What the report shows of one feature, from the first rows of the text; made once.

    {"kind": "feature", "title", "feature", "meaning", "threshold", "sae", "text", "rows", "tokens", "density", "histogram":
    {"edges", "counts", "part", "silent"}, "contexts": [{"tokens", "values", "at", "meant", "from"}], "raised", "lowered"}.
    tokens: how many count; density: the share of them on which it is active, and silent, on which it is not.
    histogram: of the activations above zero; part: of its counts, those where the meaning holds.
    contexts: the place of the activation that each is shown for, whether the meaning holds there, and whether it is one of the
    "strongest" or from the "middle"; a value is None where the token counts in no number (BOS).
    raised, lowered: tokens with their logit weights.

    Raises KeyError for an unknown meaning.
    """
    return features.store.get(
        ("dashboard", feature, meaning, threshold), lambda: _dashboard(features, feature, meaning, threshold)
    )


def _dashboard(features: "SaeFeatures", feature: int, meaning: str, threshold: float) -> dict[str, Any]:
    rows, activations, counted, meant = features.first_rows(feature, meaning)
    active = (activations > 0) & np.isfinite(activations) & counted
    density = float(active.sum() / counted.sum())
    edges = np.linspace(0.0, float(activations[active].max()) if active.any() else 1.0, BINS + 1)
    raised, lowered = _weights(features, feature)
    return {
        "kind": "feature",
        "title": f"Feature {feature}: {meaning}",
        "feature": feature,
        "meaning": meaning,
        "threshold": threshold,
        "sae": features.sae.facts["sae"],
        "text": features.text.text.name,
        "rows": len(rows),
        "tokens": int(counted.sum()),
        "density": _rounded(density),
        "histogram": {
            "edges": [_rounded(edge) for edge in edges],
            "counts": np.histogram(activations[active], edges)[0].tolist(),
            "part": np.histogram(activations[active & meant], edges)[0].tolist(),
            "silent": _rounded(1 - density),
        },
        "contexts": _contexts(features, rows, np.where(counted & np.isfinite(activations), activations, np.nan), meant),
        "raised": raised,
        "lowered": lowered,
    }


def _contexts(
    features: "SaeFeatures", rows: Int[np.ndarray, "row pos"], activations: Float[np.ndarray, "row pos"], meant: Marks
) -> list[dict[str, Any]]:
    """Contexts of the strongest activations and of middling ones: no row of text twice, and no two with the same tokens.

    activations: NaN where a token does not count.
    """
    taken: set[int] = set()
    seen: set[tuple[int, ...]] = set()

    def chosen(places: Iterable[int], at_most: int) -> Iterator[tuple[int, int]]:
        for place in places:
            row, pos = divmod(int(place), rows.shape[1])
            tokens = tuple(rows[row, max(0, pos - BESIDE) : pos + BESIDE + 1].tolist())
            if at_most and row not in taken and tokens not in seen:
                taken.add(row)
                seen.add(tokens)
                at_most -= 1
                yield row, pos

    flat = activations.flatten()
    active = np.flatnonzero(flat > 0)
    if not len(active):
        return []
    strongest = active[np.argsort(-flat[active], kind="stable")]
    shown = [("strongest", row, pos) for row, pos in chosen(strongest, STRONGEST)]
    nearest = strongest[np.argsort(np.abs(flat[strongest] - flat[strongest[0]] / 2), kind="stable")]
    middle = sorted(chosen(nearest, MIDDLE), key=lambda place: -activations[place])
    shown += [("middle", row, pos) for row, pos in middle]
    contexts = []
    for which, row, pos in shown:
        first = max(0, pos - BESIDE)
        window = slice(first, pos + BESIDE + 1)
        contexts.append(
            {
                "tokens": _in_text(features, rows[row].tolist())[window],
                "values": [None if np.isnan(value) else _rounded(value) for value in activations[row, window].tolist()],
                "at": pos - first,
                "meant": bool(meant[row, pos]),
                "from": which,
            }
        )
    return contexts


def _weights(features: "SaeFeatures", feature: int) -> tuple[list[list[Any]], list[list[Any]]]:
    weights = features.sae.logit_weights([feature])[0].double().cpu().numpy()
    order = np.argsort(-weights, kind="stable")
    ends = order[:WEIGHTS], order[::-1][:WEIGHTS]
    raised, lowered = ([[_token(features, token), _rounded(float(weights[token]))] for token in end.tolist()] for end in ends)
    return raised, lowered


def _token(features: "SaeFeatures", token: int) -> str:
    return features.sae.subject.tokenizer.decode([token])


def _in_text(features: "SaeFeatures", tokens: list[int]) -> list[str]:
    """What each token adds to the text: some tokenizers set blanks between words only when they decode several together."""
    decode = features.sae.subject.tokenizer.decode
    said = [decode(tokens[:1])]
    for before, token in pairwise(tokens):
        alone, together = decode([before]), decode([before, token])
        # A part of a letter changes what stands before it: then the token goes for itself.
        said.append(together[len(alone) :] if together.startswith(alone) else decode([token]))
    return said


# The autoencoder as a whole


def panel(numbers: "SaeNumbers", quantity: str) -> dict[str, Any] | None:
    """The figure that goes with one of an autoencoder's numbers; made once.

    L0: its distribution over tokens. dead, dense: the firing rates of all features. explained variance: the curves of the
    training, where the autoencoder's record has them. None for the others.
    """
    made = {"L0": _l0, "dead": _firing_rates, "dense": _firing_rates, "explained variance": _training}.get(quantity)
    return None if made is None else numbers.store.get(("panel", made.__name__), lambda: made(numbers))


def _l0(numbers: "SaeNumbers") -> dict[str, Any]:
    text = numbers.text
    active, counted = text.active_features(min(text.chunk, text.limit or text.chunk))
    found = active[counted]
    low, high = int(found.min()), int(found.max())
    step = (high - low) // L0_BARS + 1
    edges = np.arange(low, high + step + 1, step) - 0.5
    return {
        "kind": "histogram",
        "title": "Active features a token (L0)",
        "x_axis": "active features",
        "of": "tokens",
        "edges": edges.tolist(),
        "counts": np.histogram(found, edges)[0].tolist(),
        "lines": [{"x": _rounded(found.mean()), "label": "mean"}],
    }


def _firing_rates(numbers: "SaeNumbers") -> dict[str, Any]:
    from circuit_claims.sae.metrics_on_text import DENSE

    text = numbers.text
    rates = text.firing_rates()
    tokens = int(text.sums(text.firing_rows)[0].tokens.sum())
    alive = rates[rates > 0]
    # From the bar of a feature that fires once to that of one that always does.
    decades = np.arange(min(np.floor(-np.log10(tokens) * PER_DECADE), -1), 1) / PER_DECADE
    never, dense = int((rates == 0).sum()), int((rates > DENSE).sum())
    return {
        "kind": "histogram",
        "title": "How often features fire",
        "x_axis": "share of tokens on which a feature fires",
        "of": "features",
        "scale": "log",
        "edges": [float(f"{edge:.10g}") for edge in 10**decades],
        "counts": np.histogram(np.log10(alive), decades)[0].tolist(),
        "apart": {"label": "never", "count": never},
        "lines": [{"x": DENSE, "label": "dense above"}],
        "remark": f"On {tokens:,} tokens, {never:,} of {len(rates):,} features never fire and {dense:,} are dense; "
        f"the rates add up to {_rounded(rates.sum()):g} active features a token.",
    }


def _training(numbers: "SaeNumbers") -> dict[str, Any] | None:
    curve = [point for point in numbers.sae.record.get("curve") or [] if "tokens" in point]
    if not curve:
        return None

    def lines(**keys: str) -> list[dict[str, Any]]:
        return [
            {"label": label, "values": [point.get(key) for point in curve]}
            for key, label in keys.items()
            if any(point.get(key) is not None for point in curve)
        ]

    panels = [
        {"y_axis": "share", "curves": lines(explained_variance="explained variance", loss_recovered="loss recovered")},
        {"y_axis": "nats a token", "curves": lines(loss_with_sae="loss with the SAE", loss="loss of the model")},
        {"y_axis": "squared error", "curves": lines(mse="squared error")},
        {"y_axis": "features a token", "curves": lines(l0="L0")},
        {"y_axis": "share of features", "curves": lines(dead="dead in training")},
    ]
    return {
        "kind": "panels",
        "title": "Training of the SAE",
        "x": [point["tokens"] for point in curve],
        "x_axis": "tokens",
        "panels": [panel for panel in panels if panel["curves"]],
        "remark": "On text held out from it; dead are the features that had long not fired in training.",
    }


def _rounded(value: float | np.floating) -> float:
    return float(f"{value:.5g}")
