"""What all drawings share: settings of matplotlib, colours that follow the page, and SVG made fit to stand inside a page."""

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

from circuit_claims.reports import wording

#: Colours that no map contains mark what shall become currentColor, and the page's colour for the expected range.
INK, BAND = "#010203", "#010204"
#: Okabe and Ito's, without those that vanish on a white page or on a dark one; told apart by readers of any colour vision.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")

#: About how wide a letter of the labels is, in inches.
LETTER = 0.072

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "circuit-claims",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.parse_math": False,
    "axes.linewidth": 0.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib as the report draws with it."""
    # Drawing libraries cost a second to import, and most runs of the tests draw nothing.
    from matplotlib import rc_context

    # A missing glyph is the reader's font's affair: it must not turn into an error where warnings are errors.
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Paper:
    """Axes side by side on a figure that is as wide as they need, in inches.

    Room for labels is reckoned by their letters, since it is the reader's browser that sets them, in a font of its own.
    """

    def __init__(self, *, left: float, below: float, above: float, high: float) -> None:
        self._at, self._below, self._above, self._high = left, below, above, high
        self._boxes: list[tuple[Any, float, float]] = []

    def add(self, canvas: Any, wide: float, *, after: float) -> Any:
        """The next axes, with room after them."""
        # Each its own place until all are there: matplotlib takes axes of equal place for the same ones.
        axes = canvas.add_axes((0.01 * len(self._boxes), 0, 0.5, 0.5))
        self._boxes.append((axes, self._at, wide))
        self._at += wide + after
        return axes

    def settle(self, canvas: Any) -> None:
        """Give the figure its size, and all axes their places on it."""
        high = self._below + self._high + self._above
        canvas.set_size_inches(self._at, high)
        for axes, left, wide in self._boxes:
            axes.set_position((left / self._at, self._below / high, wide / self._at, self._high / high))


@dataclass(frozen=True)
class Frame:
    """Where the data of one pair of axes lie in the SVG, in its own units (points, y downwards)."""

    left: float
    top: float
    width: float
    height: float
    xlim: tuple[float, float]
    ylim: tuple[float, float]

    @classmethod
    def of(cls, axes: Any) -> "Frame":
        """Of axes that have been drawn, so that their layout is settled."""
        box, (inches_wide, inches_high) = axes.get_position(), axes.figure.get_size_inches()
        wide, high = 72 * inches_wide, 72 * inches_high
        left, top, width, height = box.x0 * wide, (1 - box.y1) * high, box.width * wide, box.height * high
        return cls(left, top, width, height, axes.get_xlim(), axes.get_ylim())

    def x(self, at: float) -> float:
        """From the axis's units."""
        return self.left + self.width * (at - self.xlim[0]) / (self.xlim[1] - self.xlim[0])

    def y(self, at: float) -> float:
        """From the axis's units."""
        return self.top + self.height * (self.ylim[1] - at) / (self.ylim[1] - self.ylim[0])


def svg_of(canvas: Any) -> str:
    """A figure as matplotlib's SVG file, without the date and the like that would make equal figures differ."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(file, format="svg", dpi=150, transparent=True, metadata=nothing)
    return file.getvalue()


def put_into(svg: str, group: str, parts: list[str]) -> str:
    """The SVG with further elements at the beginning of one of its groups, below what matplotlib drew there."""
    opening = f'<g id="{group}">'
    before, found, after = svg.partition(opening)
    if not found:
        raise ValueError(f"the drawing has no group {group!r}")
    return "".join([before, opening, *parts, after])


def inline(svg: str, prefix: str, kind: str, title: str, summary: str) -> str:
    """An SVG file made fit to stand inside a page beside others: every id begins with `prefix`, ink is the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Matplotlib's style sheet begins with `*`: inside a page it would reach every element of it.
    svg = re.sub(r"\s*<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = svg.replace(INK, "currentColor").replace(BAND, "var(--band, #d5e3f2)")
    title, summary = escape(wording.one_line(title or kind)), escape(wording.one_line(summary))
    opening, closing, rest = svg.partition(">")
    named = f' class="{kind}" role="img" aria-label="{title}. {summary}"'
    return f"{opening}{named}{closing}<title>{title}</title><desc>{summary}</desc>{rest}".strip()


def finite(value: Any) -> float | None:
    """A number, or None for what is missing, NaN or infinite. Raises ValueError or TypeError for what is no number."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def short(value: float) -> str:
    """A number of three digits, for a drawing."""
    return wording.number(float(f"{value:.3g}"))


def text_of(figure: dict[str, Any], key: str) -> str:
    """One of a figure's texts, on one line; empty where it has none."""
    return wording.one_line(figure.get(key) or "")


def visible_token(token: Any) -> str:
    """A token whose blanks can be seen: ` the` as `␣the`, a line break as `↵`, a tab as `⇥`, an empty one as `∅`."""
    return wording.one_line(str(token).replace(" ", "␣").replace("\t", "⇥")) or "∅"


def shown_label(label: Any) -> str:
    """A label of an axis: one that begins or ends with a blank is a token, and shows it."""
    said = str(label)
    return visible_token(said) if said != said.strip() else wording.one_line(said)


def in_unit(unit: str) -> str:
    """A unit after a number; none after what is a share or the like and needs no name."""
    return f" {unit}" if unit else ""


def listed(value: Any, what: str) -> list[Any]:
    """A list of a figure. Raises ValueError where it is none."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"the figure's {what} are no list")
    return list(value)


def spread_ticks(count: int, most: int) -> range:
    """Which of so many places get a tick: evenly, at most `most` of them."""
    return range(0, count, max(1, math.ceil(count / most)))
