"""The strip in a claim's line: its observation beside the expected range, on a scale of its own."""

from html import escape
from typing import Any

from circuit_claims.reports import bases, wording

_WIDTH, _HEIGHT = 168, 22
#: Room below for the numbers at the ends of the expected range.
_NUMBERS = 9


def strip(row: dict[str, Any]) -> str:
    """The expected range as a band, the observation as a dot, its interval as a line; empty where nothing was observed.

    Each strip has its own scale: claims are in different units, and a strip is read within its row.
    """
    low, high = row.get("expected_low"), row.get("expected_high")
    value, ci_low, ci_high = row.get("observed"), row.get("ci_low"), row.get("ci_high")
    op = str(row.get("op") or "")
    if value is None or (low is None and high is None):
        return ""
    if wording.is_rank(row):
        low, high = 1.0, high if high is not None else low
    elif "<" in op and high is None:
        low, high = None, low
    elif ">" in op and low is None:
        low, high = high, None
    shown = [x for x in (low, high, value, ci_low, ci_high) if x is not None]
    span = max(shown) - min(shown) or max(abs(value) * 0.1, 1e-9)
    left, right = min(shown) - 0.2 * span, max(shown) + 0.2 * span

    def x(at: float) -> str:
        return f"{2 + (_WIDTH - 4) * (at - left) / (right - left):.2f}"

    band_left, band_right = x(left if low is None else low), x(right if high is None else high)
    middle = _HEIGHT / 2
    band_width = f"{float(band_right) - float(band_left):.2f}"
    parts = [
        f'<rect class="band" x="{band_left}" y="3" width="{band_width}" height="{_HEIGHT - 6}"/>',
        f'<line class="axis" x1="2" y1="{middle}" x2="{_WIDTH - 2}" y2="{middle}"/>',
    ]
    parts += [
        f'<line class="bound" x1="{x(bound)}" y1="2" x2="{x(bound)}" y2="{_HEIGHT - 2}"/>'
        for bound in (low, high)
        if bound is not None
    ]
    # Each number on the outer side of its line, so that two of them never meet.
    anchors = ("middle", "middle") if low is None or high is None or low == high else ("end", "start")
    parts += [
        f'<text class="end" x="{x(bound)}" y="{_HEIGHT + _NUMBERS - 1}" text-anchor="{anchor}">'
        f"{escape(wording.bound(row, bound))}</text>"
        for bound, anchor in zip((low, high if high != low else None), anchors, strict=True)
        if bound is not None
    ]
    if ci_low is not None and ci_high is not None:
        parts.append(f'<line class="interval" x1="{x(ci_low)}" y1="{middle}" x2="{x(ci_high)}" y2="{middle}"/>')
    parts.append(f'<circle class="dot" cx="{x(value)}" cy="{middle}" r="3.6"/>')
    held = bases.expected(row) if bases.is_foreign(row) else f"expected {wording.expected(row)}"
    said = escape(f"{held}; observed {wording.observed_with_interval(row)}")
    return (
        f'<svg class="strip" role="img" aria-label="{said}" viewBox="0 0 {_WIDTH} {_HEIGHT + _NUMBERS}" '
        f'width="{_WIDTH}" height="{_HEIGHT + _NUMBERS}"><title>{said}</title>{"".join(parts)}</svg>'
    )


def on_scale(scale: tuple[float, float], said: str, *, dot: float, ends: Any = None, bands: Any = ()) -> str:
    """One number of several that are read against each other: all on one scale, each in a line of its own.

    ends: of the number's interval; without one the dot is hollow, since a source's number is none that was measured here.
    bands: intervals behind it, to see whether it lies within them.
    """
    left, right = scale

    def x(at: float) -> float:
        return 2 + (_WIDTH - 4) * (at - left) / (right - left)

    middle = _HEIGHT / 2
    parts = [
        f'<rect class="band" x="{x(low):.2f}" y="0" width="{max(x(high) - x(low), 1):.2f}" height="{_HEIGHT}"/>'
        for low, high in bands
    ]
    parts.append(f'<line class="axis" x1="2" y1="{middle}" x2="{_WIDTH - 2}" y2="{middle}"/>')
    if ends is not None:
        parts.append(f'<line class="interval" x1="{x(ends[0]):.2f}" y1="{middle}" x2="{x(ends[1]):.2f}" y2="{middle}"/>')
    parts.append(f'<circle class="dot{"" if ends else " hollow"}" cx="{x(dot):.2f}" cy="{middle}" r="3.6"/>')
    said = escape(said)
    return (
        f'<svg class="strip" role="img" aria-label="{said}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}"><title>{said}</title>{"".join(parts)}</svg>'
    )
