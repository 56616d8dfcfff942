"""The dashboard of an SAE's feature: how strongly it fires, in which contexts, and what it does to the logits.

The histogram is an SVG, as every figure; contexts and tokens are text of the page, so that they wrap and can be searched.
"""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from circuit_claims.reports import wording
from circuit_claims.reports.figures.canvas import finite, listed, short, text_of, visible_token
from circuit_claims.reports.figures.histogram import Histogram

#: The strongest shade: text in the page's ink can be read on it, in light and in dark.
_DEEPEST = 0.6
_HEADINGS = {"strongest": "Where it is strongest", "middle": "Where it is half as strong"}
#: Contexts and tokens that the spoken sentence names.
_NAMED = 3
_LONGEST = 30


@dataclass(frozen=True)
class Context:
    """Tokens with an activation each (None where a token does not count), and the place of the one they are shown for."""

    tokens: tuple[str, ...]
    values: tuple[float | None, ...]
    at: int
    meant: bool
    group: str

    @classmethod
    def read(cls, given: Any) -> "Context":
        """Raises ValueError or TypeError where there is not one number a token, or none at the place."""
        if not isinstance(given, dict):
            raise ValueError("a context of the feature is none")
        tokens = tuple(str(token) for token in listed(given.get("tokens"), "tokens"))
        values = tuple(finite(value) for value in listed(given.get("values"), "values"))
        if len(tokens) != len(values):
            raise ValueError(f"a context of the feature has {len(tokens)} tokens and {len(values)} values for them")
        at = given.get("at")
        if not isinstance(at, int) or not 0 <= at < len(tokens) or values[at] is None:
            raise ValueError("a context of the feature has no token with an activation at its place")
        return cls(tokens, values, at, bool(given.get("meant")), text_of(given, "from"))

    @property
    def strength(self) -> float:
        """The activation that it is shown for."""
        return self.values[self.at] or 0.0


@dataclass(frozen=True)
class Feature:
    """{"feature", "meaning", "threshold", "text", "rows", "tokens", "density", "histogram", "contexts", "raised", "lowered"},
    read and checked; what they are, `circuit_claims.sae.dashboards.dashboard` says.
    """

    number: int
    meaning: str
    threshold: float
    text: str
    rows: int
    tokens: int
    density: float
    histogram: Histogram
    contexts: tuple[Context, ...]
    raised: tuple[tuple[str, float], ...]
    lowered: tuple[tuple[str, float], ...]

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Feature":
        """Raises ValueError, TypeError or OverflowError where something is missing or does not fit."""
        number, rows, tokens = (figure.get(key) for key in ("feature", "rows", "tokens"))
        if not (isinstance(number, int) and isinstance(rows, int) and isinstance(tokens, int)):
            raise ValueError("the feature has no number, or its dashboard does not say of how many tokens it is")
        density, threshold = finite(figure.get("density")), finite(figure.get("threshold")) or 0.0
        if density is None or not 0 <= density <= 1:
            raise ValueError("the dashboard does not say how often the feature fires")
        bars = figure.get("histogram")
        if not isinstance(bars, dict):
            raise ValueError("the dashboard has no histogram")
        meaning = text_of(figure, "meaning")
        histogram = Histogram.read(
            {
                "edges": bars.get("edges"),
                "counts": bars.get("counts"),
                "part": {"label": "where its meaning holds", "counts": bars.get("part")},
                "lines": [{"x": threshold, "label": "threshold"}] if threshold else [],
                "x_axis": "activation, where above zero",
                "of": "tokens",
            }
        )
        return cls(
            number=number,
            meaning=meaning,
            threshold=threshold,
            text=text_of(figure, "text"),
            rows=rows,
            tokens=tokens,
            density=density,
            histogram=histogram,
            contexts=tuple(Context.read(given) for given in listed(figure.get("contexts"), "contexts")),
            raised=_weights(figure.get("raised"), "raised tokens"),
            lowered=_weights(figure.get("lowered"), "lowered tokens"),
        )

    def draw(self) -> str:
        """The histogram of activations, as an SVG file."""
        return self.histogram.draw()

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        where = f"{self.tokens:,} tokens ({self.rows:,} rows of {self.text or 'the text'})"
        if not self.density:
            return f"It fires on none of {where}."
        return f"It fires on {percentage(self.density)} of {where}; the others are not in the histogram."

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        said = [f"Fires on {percentage(self.density)} of {self.tokens:,} tokens", self.histogram.summary().rstrip(".")]
        peaks = dict.fromkeys(visible_token(context.tokens[context.at]) for context in self.contexts)
        if peaks:
            said.append(f"strongest on {', '.join(list(peaks)[:_NAMED])}")
        for verb, weights in (("raises", self.raised), ("lowers", self.lowered)):
            if weights:
                said.append(f"{verb} {', '.join(visible_token(token) for token, _ in weights[:_NAMED])} most")
        return f"{'. '.join(part[:1].upper() + part[1:] for part in said)}."

    def html(self) -> str:
        """The contexts and the tokens that it raises and lowers, for below the histogram; all text in it is escaped."""
        # Both lists of tokens on one scale, and all contexts on that of the strongest.
        widest = max((abs(weight) for _, weight in (*self.raised, *self.lowered)), default=0.0) or 1.0
        strongest = max((context.strength for context in self.contexts), default=0.0) or 1.0
        lists = [_bars("Logits raised most", self.raised, widest), _bars("Logits lowered most", self.lowered, widest)]
        parts = [Markup('<div class="weights">{}</div>').format(Markup("").join(lists))]
        for group in dict.fromkeys(context.group for context in self.contexts):
            lines = Markup("").join(_line(context, strongest) for context in self.contexts if context.group == group)
            parts.append(
                Markup('<h4>{}</h4><ol class="contexts">{}</ol>').format(_HEADINGS.get(group, group or "Contexts"), lines)
            )
        return str(Markup("").join(parts))


def percentage(share: float) -> str:
    """A share of tokens as a percentage of two digits."""
    return f"{wording.number(float(f'{100 * share:.2g}'))} %"


def _weights(given: Any, what: str) -> tuple[tuple[str, float], ...]:
    pairs = []
    for pair in listed(given, what):
        weight = finite(pair[1]) if isinstance(pair, list | tuple) and len(pair) == 2 else None
        if weight is None:
            raise ValueError(f"the feature's {what} are not all tokens with a number")
        pairs.append((str(pair[0]), weight))
    return tuple(pairs)


def _bars(caption: str, weights: tuple[tuple[str, float], ...], widest: float) -> Markup:
    line = Markup(
        '<tr><th scope="row"><code>{}</code></th><td class="number">{}</td>'
        '<td aria-hidden="true"><span class="bar {}" style="width:{}%"></span></td></tr>'
    )
    lines = Markup("").join(
        line.format(_cut(visible_token(token)), short(weight), _side(weight), f"{100 * abs(weight) / widest:.1f}")
        for token, weight in weights
    )
    return Markup("<table><caption>{}</caption>{}</table>").format(caption, lines)


def _side(weight: float) -> str:
    return "up" if weight >= 0 else "down"


def _line(context: Context, strongest: float) -> Markup:
    tokens: list[Markup] = []
    shaded = Markup('<{0} style="--a:{1}" title="{2}">{3}</{0}>')
    for place, (token, value) in enumerate(zip(context.tokens, context.values, strict=True)):
        # The blank before a word is left unshaded, or it would stand as a box of its own where a line is broken.
        word = token.lstrip(" ") or token
        tokens.append(escape(token[: len(token) - len(word)] if place else ""))
        said = escape(_in_text(word))
        if value is not None and value > 0:
            shade = _DEEPEST * min(value / strongest, 1.0)
            tag = Markup("mark" if place == context.at else "span")
            said = shaded.format(tag, f"{shade:.3f}", short(value), said)
        tokens.append(said)
    holds = ("its meaning holds here", "✓") if context.meant else ("its meaning does not hold here", "✗")
    meant = Markup('<span class="meant" role="img" aria-label="{0}" title="{0}">{1}</span>').format(*holds)
    return Markup('<li><span class="strength number">{}</span> {} <span class="context">{}</span></li>').format(
        short(context.strength), meant, Markup("").join(tokens)
    )


def _in_text(token: str) -> str:
    """A token inside running text: blanks stay, what cannot be seen is spelled out."""
    return wording.one_line(token.replace("\t", "⇥"))


def _cut(said: str) -> str:
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
