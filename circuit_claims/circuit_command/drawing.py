"""A circuit of edges as SVG: the embedding below, the logits on top, layers between them, families of heads in their colours.

A head has three ports at its lower side, where its queries, keys and values read. A line is the thicker the larger its edge's
score in size; edges that hinder are drawn in red. Every node and line says what it is under the pointer.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from circuit_claims.edges.edge import INPUTS, Edge, Receiver, Sender
from circuit_claims.heads import Head
from circuit_claims.reports.figures.graph import colours

_WIDE, _HIGH, _GAP, _ROW, _MARGIN, _BESIDE = 58, 26, 14, 74, 16, 64
_HELPS, _HINDERS, _GREY = "#0072b2", "#d55e00", "#8a8a8a"
_THIN, _THICK, _LEGEND = 0.6, 5.0, 20

#: What stands in the drawing: a sender, or None for the logits.
Node = Sender | None


class Place(NamedTuple):
    """The middle of a node's box."""

    x: float
    y: float


def drawn(edges: Sequence[Edge], scores: Sequence[float], families: Mapping[str, Sequence[Head]], title: str, unit: str) -> str:
    """The SVG of some edges with their scores; families: heads by what they are called, of which the first names a head."""
    nodes = _nodes(edges)
    rows = _rows(nodes)
    widest = max((len(row) for row in rows), default=1)
    wide = max(2 * _MARGIN + _BESIDE + widest * (_WIDE + _GAP), 420)
    high = 2 * _MARGIN + len(rows) * _ROW
    places = _places(rows, wide, high)
    of_head = {head: name for name, heads in reversed(list(families.items())) for head in heads}
    named = {of_head.get(head) for node in nodes if (head := _head(node)) is not None}
    there = [name for name in families if name in named]
    colour = colours(there)
    parts = [f'<rect width="{wide:.0f}" height="{high + _legend_height(there):.0f}" fill="white"/>']
    parts += [_layer_name(row, place) for row in rows if row and (place := places[row[0]])]
    most = max((abs(score) for score in scores), default=0.0) or 1.0
    # The strongest last, so that no other hides it.
    for edge, score in sorted(zip(edges, scores, strict=True), key=lambda one: abs(one[1])):
        parts.append(_line(edge, score, abs(score) / most, places, unit))
    for node in nodes:
        family = of_head.get(_head(node) or Head(-1, -1), "")
        parts.append(_box(node, places[node], family, colour.get(family, _GREY)))
    parts += _legend(there, colour, high)
    said = "; ".join(f"{edge}: {score:.3g} {unit}" for edge, score in zip(edges, scores, strict=True))
    size = f'viewBox="0 0 {wide:.0f} {high + _legend_height(there):.0f}" width="{wide:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} font-family="sans-serif" font-size="11">'
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>{''.join(parts)}</svg>\n"
    )


def _nodes(edges: Sequence[Edge]) -> list[Node]:
    """Who sends or reads, in the order of the forward pass."""
    found: set[Node] = {edge.sender for edge in edges} | {edge.receiver.node for edge in edges}
    return sorted(found, key=_order)


def _order(node: Node) -> tuple[float, int]:
    if node is None:
        return (float("inf"), 0)
    layer = -1 if node.layer is None else node.layer
    return (layer + (0.5 if node.head is None else 0), node.head or 0)


def _rows(nodes: Sequence[Node]) -> list[list[Node]]:
    """From below: the embedding, of each layer its heads and then its MLP, and the logits; empty ones are left out."""
    rows: dict[float, list[Node]] = {}
    for node in nodes:
        rows.setdefault(_order(node)[0], []).append(node)
    return [rows[key] for key in sorted(rows)]


def _places(rows: Sequence[Sequence[Node]], wide: float, high: float) -> dict[Node, Place]:
    places = {}
    for number, row in enumerate(rows):
        y = high - _MARGIN - _ROW / 2 - number * _ROW
        first = _BESIDE + (wide - _BESIDE - (len(row) - 1) * (_WIDE + _GAP)) / 2
        for column, node in enumerate(row):
            places[node] = Place(first + column * (_WIDE + _GAP), y)
    return places


def _head(node: Node) -> Head | None:
    return None if node is None or node.layer is None or node.head is None else Head(node.layer, node.head)


def _layer_name(row: Sequence[Node], place: Place) -> str:
    node = row[0]
    if node is None or node.layer is None:
        return ""
    return f'<text x="{_MARGIN}" y="{place.y + 4:.1f}" fill="{_GREY}">layer {node.layer}</text>'


def _box(node: Node, place: Place, family: str, colour: str) -> str:
    name = "logits" if node is None else str(node)
    said = f"{name}, {family}" if family else name
    head = _head(node) is not None
    fill, ink = (colour, "white") if family else ("white", "black")
    parts = [
        f'<rect x="{place.x - _WIDE / 2:.1f}" y="{place.y - _HIGH / 2:.1f}" width="{_WIDE}" height="{_HIGH}" '
        f'rx="{12 if head else 2}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>',
        f'<text x="{place.x:.1f}" y="{place.y + 3:.1f}" text-anchor="middle" fill="{ink}">{escape(name)}</text>',
    ]
    if head:
        for which in INPUTS:
            x = _port(place, which).x
            y = place.y + _HIGH / 2 + 8
            parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="8" fill="{_GREY}">{which}</text>')
    return f"<g><title>{escape(said)}</title>{''.join(parts)}</g>"


def _port(place: Place, which: str | None) -> Place:
    """Where an edge ends at its receiver's lower side."""
    offset = 0 if which is None else (INPUTS.index(which) - 1) * _WIDE / 3.5  # type: ignore[arg-type] - one of them
    return Place(place.x + offset, place.y + _HIGH / 2)


def _line(edge: Edge, score: float, share: float, places: Mapping[Node, Place], unit: str) -> str:
    start = places[edge.sender]
    receiver: Receiver = edge.receiver
    end = _port(places[receiver.node], receiver.input)
    y, bend = start.y - _HIGH / 2, (start.y - end.y) / 2
    path = f"M{start.x:.1f} {y:.1f}C{start.x:.1f} {y - bend:.1f} {end.x:.1f} {end.y + bend:.1f} {end.x:.1f} {end.y:.1f}"
    look = f'stroke="{_HELPS if score >= 0 else _HINDERS}" stroke-width="{_THIN + share * (_THICK - _THIN):.2f}"'
    opacity = f'stroke-opacity="{0.25 + 0.6 * share:.2f}"'
    return f'<path d="{path}" fill="none" {look} {opacity}><title>{escape(f"{edge}: {score:.4g} {unit}")}</title></path>'


def _legend(there: Sequence[str], colour: Mapping[str, str], high: float) -> list[str]:
    lines = [(colour[name], name) for name in there] + [(_HELPS, "an edge that helps"), (_HINDERS, "an edge that hinders")]
    parts = []
    for number, (ink, name) in enumerate(lines):
        y = high + _LEGEND * (number + 0.5)
        parts.append(f'<rect x="{_MARGIN}" y="{y - 6:.1f}" width="22" height="{12 if name in there else 3}" fill="{ink}"/>')
        parts.append(f'<text x="{_MARGIN + 30}" y="{y + 4:.1f}">{escape(name)}</text>')
    return parts


def _legend_height(there: Sequence[str]) -> float:
    return _LEGEND * (len(there) + 2) + _MARGIN
