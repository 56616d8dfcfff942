"""The circuit of a chapter, drawn as a graph of its paths, with the same as a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.reports.figures.graph import Arrow, Node, graph
from circuit_claims.reports.overview.paths import LOGITS, Path, effect_of, paths_of, table_of
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, NOW_TRUE, REFUTED

#: How a path is drawn whose main row has this verdict; any other leaves it open.
_STYLES = {
    HOLDS: "",
    NOW_TRUE: "",
    REFUTED: "refuted",
    KNOWN_FALSE: "refuted",
    INCONCLUSIVE: "undecided",
}  #: Letters of a label's line for which there is room between two columns.
_LONGEST = 24

NOTE_OF_TABLE = (
    "Families of heads, and the paths between them that claims patched. The number is what is lost with the path, as a share "
    "of the logit difference unless its unit says otherwise; it is negative where the logit difference rises without the path."
)
NOTE = f"{NOTE_OF_TABLE} The wider the line, the more. Dashed: the claim is refuted. Dotted and grey: undecided."


@dataclass(frozen=True)
class Circuit:
    """A chapter's paths: the drawing, why there is none where it fails, and the table, each path with a row about it."""

    svg: str
    failure: str
    table: tuple[tuple[Path, dict[str, Any]], ...]


def circuit_of(rows: Sequence[dict[str, Any]], title: str, prefix: str) -> Circuit | None:
    """The circuit that these rows speak of; None where none of them is about a path."""
    paths = paths_of(rows)
    if not paths:
        return None
    table = tuple(table_of(paths))
    try:
        return Circuit(graph(_nodes(paths), [_arrow(path) for path in paths], title, prefix), "", table)
    except Exception as error:  # whatever odd rows bring, the report is written
        said = wording.one_line(error).rstrip(".") or type(error).__name__
        return Circuit("", f"The circuit could not be drawn: {said}.", table)


def lines_of(circuit: Circuit) -> list[dict[str, str]]:
    """The table in words, a line a row."""
    return [
        {
            "path": path.between,
            "into": path.where,
            "effect": effect_of(row),
            "verdict": wording.one_line(row.get("verdict") or "no verdict"),
            "claim": wording.name_of(row),
        }
        for path, row in circuit.table
    ]


def _nodes(paths: Sequence[Path]) -> list[Node]:
    heads: dict[str, tuple[str, ...]] = {}
    for path in paths:
        for family, members in (*path.sources.items(), *path.targets.items()):
            heads[family] = heads.get(family) or members
    return [Node(name, members, _layer(members)) for name, members in heads.items()]


def _layer(heads: Sequence[str]) -> float:
    found = [int(match[1]) for head in heads if (match := re.match(r"L(\d+)H\d+$", head))]
    return fmean(found) if found else float("inf")


def _arrow(path: Path) -> Arrow:
    main = path.main
    style = _STYLES.get(str(main.get("verdict")), "undecided")
    others = len(path.rows) - 1
    whole = wording.observed_with_interval(main)
    label = [whole] if len(whole) <= _LONGEST else [wording.observed(main), wording.interval(main)]
    label.append(path.where if set(path.targets) != {LOGITS} else "")
    label += [wording.one_line(main.get("verdict") or "no verdict") if style else ""]
    label += [f"{others} more in the table" if others else ""]
    said = "; ".join(f"{effect_of(row)}, {wording.one_line(row.get('verdict') or 'no verdict')}" for row in path.rows)
    said = f"{path.where}: {said}" if path.where else said
    return Arrow(tuple(path.sources), tuple(path.targets), tuple(filter(None, label)), float(main["observed"]), style, said)
