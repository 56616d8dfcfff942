"""A circuit as a graph: families of heads from left to right, and the paths between them that were patched.

Every path goes from an earlier layer to a later one, so a family stands in the column after the last of those that it hears.
Lines that pass a column get a place in it, as a family would, so that none runs through a box.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import fmean

from circuit_claims.reports.figures.canvas import PALETTE

#: Each role its colour in every report; families that are none of these take what is left, in turn.
ROLES = ("name mover", "S-inhibition", "induction", "negative name mover", "duplicate token", "previous token")

_BOX, _GAP, _ROW, _LINE, _MARGIN = 168, 150, 118, 14, 12
_HEADS_A_LINE, _LINES = 3, 4


@dataclass(frozen=True)
class Node:
    """A family, or what the last paths lead to: `heads` are names like L9H9, none for the logits. layer: for the order."""

    name: str
    heads: tuple[str, ...] = ()
    layer: float = 0.0


@dataclass(frozen=True)
class Arrow:
    """A path from some nodes to others, with its label in lines. size: of its effect, 1 for all there is.

    style: "" for one that is borne out, "refuted" or "undecided". said: the label in a sentence.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    label: tuple[str, ...]
    size: float
    style: str = ""
    said: str = ""


@dataclass
class _Layout:
    """Where everything stands: nodes in columns, and the way of each line through them, one place a column."""

    columns: dict[str, int]
    ways: dict[tuple[str, str], list[str]]
    rows: dict[str, float] = field(default_factory=dict)


def graph(nodes: Sequence[Node], arrows: Sequence[Arrow], title: str, prefix: str) -> str:
    """The SVG, to be set inside a page. Every id begins with `prefix`."""
    lines = list(dict.fromkeys((s, t) for arrow in arrows for s in arrow.sources for t in arrow.targets))
    layout = _laid_out({node.name: node for node in nodes}, lines)
    most = max(layout.rows.values(), default=0.0)
    wide = 2 * _MARGIN + (max(layout.columns.values(), default=0) + 1) * (_BOX + _GAP) - _GAP
    high = 2 * _MARGIN + (most + 1) * _ROW
    parts = [part for arrow in arrows for part in _arrow(arrow, layout)]
    coloured = colours([node.name for node in nodes if node.heads])
    parts += [_box(node, layout, coloured.get(node.name, "currentColor")) for node in nodes]
    parts += [_label(arrow, layout) for arrow in arrows]
    said = "; ".join(f"{' and '.join(a.sources)} to {' and '.join(a.targets)}: {a.said or ', '.join(a.label)}" for a in arrows)
    named = f'role="img" aria-labelledby="{prefix}-title {prefix}-desc"'
    return (
        f'<svg class="graph" {named} viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}">'
        f'<title id="{prefix}-title">{escape(title)}</title><desc id="{prefix}-desc">{escape(said)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each family: that of its role, or the first that no role here has."""
    chosen = {name: PALETTE[ROLES.index(name)] for name in names if name in ROLES}
    free = [colour for colour in PALETTE if colour not in chosen.values()] or list(PALETTE)
    others = [name for name in names if name not in chosen]
    return chosen | {name: free[place % len(free)] for place, name in enumerate(others)}


def _laid_out(nodes: Mapping[str, Node], lines: Sequence[tuple[str, str]]) -> _Layout:
    columns = dict.fromkeys(nodes, 0)
    for _ in nodes:  # as often as a path can be long: a circle, which no model has, ends too
        for source, target in lines:
            columns[target] = max(columns[target], min(columns[source] + 1, len(nodes) - 1))
    hears = {target for _, target in lines}
    for root in [node for node in nodes.values() if node.name not in hears and node.name in dict(lines)]:
        # A family that hears none of the others stands with the one that is nearest to its layers, before all that hear it.
        others = sorted((abs(other.layer - root.layer), name) for name, other in nodes.items() if name != root.name)
        last = min(columns[target] for source, target in lines if source == root.name) - 1
        columns[root.name] = max(0, min(last, columns[others[0][1]]))
    ways: dict[tuple[str, str], list[str]] = {}
    for source, target in lines:
        between = range(columns[source] + 1, columns[target])
        places = [f"{source}\n{target}\n{column}" for column in between]
        columns |= dict(zip(places, between, strict=True))
        ways[source, target] = [source, *places, target]
    layout = _Layout(columns, ways)
    before: dict[str, list[str]] = {}
    for way in ways.values():
        for one, next_one in itertools.pairwise(way):
            before.setdefault(next_one, []).append(one)
    members = [[name for name in columns if columns[name] == column] for column in range(max(columns.values(), default=0) + 1)]
    tallest = max((len(column) for column in members), default=1)
    for column in members:

        def place(name: str) -> tuple[float, float, str]:
            heard = [layout.rows[one] for one in before.get(name, []) if one in layout.rows]
            return (fmean(heard) if heard else 0.0, nodes[name].layer if name in nodes else -1.0, name)

        for row, name in enumerate(sorted(column, key=place)):
            layout.rows[name] = row + (tallest - len(column)) / 2
    return layout


def _left(name: str, layout: _Layout) -> float:
    return _MARGIN + layout.columns[name] * (_BOX + _GAP)


def _middle(name: str, layout: _Layout) -> float:
    return _MARGIN + (layout.rows[name] + 0.5) * _ROW


def _lines_of(node: Node) -> list[str]:
    """A family's heads, some to a line; those for which there is no room are counted."""
    groups = [node.heads[start : start + _HEADS_A_LINE] for start in range(0, len(node.heads), _HEADS_A_LINE)]
    lines = [" ".join(group) for group in groups]
    if len(lines) > _LINES:
        shown = _LINES * _HEADS_A_LINE - 1
        lines = [*lines[: _LINES - 1], " ".join(node.heads[shown - _HEADS_A_LINE + 1 : shown]) + f" +{len(node.heads) - shown}"]
    return lines


def _box_height(node: Node) -> float:
    return 26 + _LINE * len(_lines_of(node))


def _box(node: Node, layout: _Layout, colour: str) -> str:
    left, high = _left(node.name, layout), _box_height(node)
    top = _middle(node.name, layout) - high / 2
    texts = [f'<text class="family" x="{left + 12:.1f}" y="{top + 17:.1f}">{escape(node.name)}</text>']
    texts += [
        f'<text class="heads" x="{left + 12:.1f}" y="{top + 17 + _LINE * number:.1f}">{escape(line)}</text>'
        for number, line in enumerate(_lines_of(node), start=1)
    ]
    said = escape(f"{node.name}: {', '.join(node.heads)}" if node.heads else node.name)
    return (
        f"<g><title>{said}</title>"
        f'<rect class="node" x="{left:.1f}" y="{top:.1f}" width="{_BOX}" height="{high:.1f}" rx="4"/>'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="5" height="{high:.1f}" rx="2" style="fill: {colour}"/>{"".join(texts)}</g>'
    )


def _arrow(arrow: Arrow, layout: _Layout) -> list[str]:
    width = 1 + 3.5 * min(abs(arrow.size), 1.0)
    drawn = []
    for source in arrow.sources:
        for target in arrow.targets:
            way = layout.ways[source, target]
            points = [(_left(way[0], layout) + _BOX, _middle(way[0], layout))]
            for place in way[1:-1]:  # straight through its column
                left, middle = _left(place, layout), _middle(place, layout)
                points += [(left, middle), (left + _BOX, middle)]
            points.append((_left(way[-1], layout) - 7, _middle(way[-1], layout)))
            drawn.append(f'<path class="line" d="{_curve(points)}" style="stroke-width: {width:.2f}"/>')
            x, y = points[-1]
            drawn.append(f'<path class="tip" d="M{x + 7:.1f},{y:.1f} l-9,-5 v10 z"/>')
    said = escape(f"{' and '.join(arrow.sources)} to {' and '.join(arrow.targets)}: {arrow.said or ', '.join(arrow.label)}")
    style = f" {arrow.style}" if arrow.style else ""
    return [f'<g class="arrow{style}"><title>{said}</title>', *drawn, "</g>"]


def _curve(points: Sequence[tuple[float, float]]) -> str:
    d = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        half = (to_x - x) / 2
        d += f" C{x + half:.1f},{y:.1f} {x + half:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}"
    return d


def _label(arrow: Arrow, layout: _Layout) -> str:
    """The label, in the gap before the target, amid the path's lines."""
    steps = [layout.ways[s, t][-2:] for s in arrow.sources for t in arrow.targets]
    y = fmean((_middle(one, layout) + _middle(other, layout)) / 2 for one, other in steps)
    x = fmean(_left(other, layout) - _GAP / 2 for _, other in steps)
    top = y - _LINE * (len(arrow.label) - 1) / 2 + 4
    texts = [
        f'<text class="{"effect" if number == 0 else "where"}" x="{x:.1f}" y="{top + _LINE * number:.1f}" '
        f'text-anchor="middle">{escape(line)}</text>'
        for number, line in enumerate(arrow.label)
    ]
    style = f" {arrow.style}" if arrow.style else ""
    return f'<g class="label{style}">{"".join(texts)}</g>'
