"""Where one token of a prompt attends to: its tokens in their order, each shaded by what it gets."""

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

from rich.cells import cell_len, set_cell_size

from circuit_claims.reports import wording
from circuit_claims.reports.figures.canvas import INK, finite, listed, short, text_of, visible_token

#: In the drawing's own units, which a page shows as large as its own text or a little smaller.
_WIDTH, _LINE, _BOX, _LETTER, _LEAST = 640.0, 38.0, 20.0, 7.3, 26.0
_GAP = 2.0
#: Half of the strongest shade: text in the page's ink can be read on it, in light and in dark.
_DEEPEST = 0.55
_POSITIVE, _NEGATIVE = "#2f7fc4", "#c4622f"
_LONGEST = 40
#: Tokens that the spoken sentence names.
_NAMED = 4


@dataclass(frozen=True)
class Attention:
    """{"tokens", "values", "query", "unit"}, read and checked; `query` is the place of the token that attends."""

    tokens: tuple[str, ...]
    values: tuple[float | None, ...]
    query: int | None = None
    unit: str = ""

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Attention":
        """Raises ValueError or TypeError where there is not one number a token, or no token at the query's place."""
        tokens = tuple(visible_token(token) for token in listed(figure.get("tokens"), "tokens"))
        values = tuple(finite(value) for value in listed(figure.get("values"), "values"))
        if not tokens or len(tokens) != len(values):
            raise ValueError(f"the figure has {len(tokens)} tokens and {len(values)} values for them")
        query = figure.get("query")
        if query is not None and (not isinstance(query, int) or not -len(tokens) <= query < len(tokens)):
            raise ValueError("the figure's query is no place of its tokens")
        return cls(tokens, values, None if query is None else query % len(tokens), text_of(figure, "unit"))

    def draw(self) -> str:
        """The SVG, drawn once for all claims that show it."""
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        outlined = "" if self.query is None else "Outlined: the token that attends. "
        return f"{outlined}Below each token, {self.unit or 'its value'}; ␣ is a space, ↵ a line break."

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        place = "" if self.query is None else f" of {self.tokens[self.query]} (token {self.query + 1})"
        known = [(value, number) for number, value in enumerate(self.values) if value is not None]
        most = sorted(known, key=lambda pair: (-abs(pair[0]), pair[1]))[:_NAMED]
        said = "; ".join(f"{self.tokens[number]} (token {number + 1}) {short(value)}" for value, number in most)
        unit = f", in {self.unit}" if self.unit else ""
        return f"Attention{place} over {len(self.tokens)} tokens{unit}. Most: {said or 'none'}."


@lru_cache(maxsize=64)
def _drawn(figure: Attention) -> str:
    limit = max((abs(value) for value in figure.values if value is not None), default=0.0) or 1.0
    boxes, names, numbers = [], [], []
    x, y = 1.0, 1.0
    for place, (token, value) in enumerate(zip(figure.tokens, figure.values, strict=True)):
        # Cells of a terminal: a letter of East Asia is two of them wide.
        said = token if cell_len(token) <= _LONGEST else set_cell_size(token, _LONGEST - 1).rstrip() + "…"
        width = max(_LETTER * cell_len(said) + 8, _LEAST)
        if x > 1.0 and x + width > _WIDTH - 1:
            x, y = 1.0, y + _LINE
        number = wording.NOTHING if value is None else _number(value)
        tooltip = f"token {place + 1}, {token}: {wording.NOTHING if value is None else short(value)}"
        shade = 0.0 if value is None else _DEEPEST * abs(value) / limit
        fill = f'fill="{_POSITIVE if (value or 0) >= 0 else _NEGATIVE}" fill-opacity="{shade:.3f}"'
        outline = f' stroke="{INK}" stroke-width="1.6"' if place == figure.query else ' class="token"'
        boxes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX:.0f}" rx="2" {fill}{outline}>'
            f"<title>{escape(tooltip)}</title></rect>"
        )
        middle = f"{x + width / 2:.1f}"
        names.append(f'<text x="{middle}" y="{y + 14:.1f}">{escape(said)}</text>')
        numbers.append(f'<text x="{middle}" y="{y + _BOX + 9.5:.1f}">{number}</text>')
        x += width + _GAP
    height = y + _LINE - 4
    monospace = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" width="{_WIDTH:.0f}pt" height="{height:.0f}pt" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(boxes)}'
        f'<g style="font: 12px {monospace}; text-anchor: middle; fill: {INK}; pointer-events: none">{"".join(names)}</g>'
        f'<g style="font: 8.5px sans-serif; text-anchor: middle; fill: {INK}; fill-opacity: .7; pointer-events: none">'
        f"{''.join(numbers)}</g></svg>"
    )


def _number(value: float) -> str:
    """Two digits after the point, and a bare 0 for what would be none."""
    return wording.number(value, 2) if abs(value) >= 0.005 else "0"
