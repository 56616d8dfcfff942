"""The circuit that rows speak of: families of heads, and the paths between them with what patching each of them did."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from circuit_claims.reports import wording

#: What a receiver's input is called.
INPUTS = {"q": "queries", "k": "keys", "v": "values"}
LOGITS = "logits"
UNNAMED = "heads of no family"


@dataclass(frozen=True)
class Path:
    """One path: from which families together, to which, and the rows that are about it, in their order.

    sources, targets: each family with its heads; the logits have none.
    """

    sources: dict[str, tuple[str, ...]]
    targets: dict[str, tuple[str, ...]]
    into: str
    at: str
    rows: tuple[dict[str, Any], ...]

    @property
    def between(self) -> str:
        """`duplicate token and induction → S-inhibition`."""
        return f"{' and '.join(self.sources)} → {' and '.join(self.targets)}"

    @property
    def where(self) -> str:
        """`values at S2`; of a path into the logits, `at END`."""
        return " ".join(part for part in (INPUTS.get(self.into, self.into), f"at {self.at}" if self.at else "") if part)

    @property
    def main(self) -> dict[str, Any]:
        """The row whose verdict the drawing shows: of p_ABC, the paper's corruption, where one is; else the first."""
        return next((row for row in self.rows if row["edge"].get("corruption") == "ABC"), self.rows[0])


def paths_of(rows: Iterable[dict[str, Any]]) -> list[Path]:
    """The paths that rows measured, each once, in the order in which they come. A malformed edge is left out."""
    found: dict[Any, Path] = {}
    for row in rows:
        path = _path(row)
        if path is None:
            continue
        key = (tuple(sorted(path.sources.items())), tuple(sorted(path.targets.items())), path.into, path.at)
        earlier = found.get(key)
        found[key] = path if earlier is None else Path(path.sources, path.targets, path.into, path.at, (*earlier.rows, row))
    return list(found.values())


def table_of(paths: Sequence[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Every row of every path: what the drawing shows, and what it has no room for."""
    return [(path, row) for path in paths for row in path.rows]


def effect_of(row: dict[str, Any]) -> str:
    """What patching the path did, and on which prompts: `share lost` is the share of the baseline that goes with the path."""
    unit = wording.one_line(row.get("unit") or "")
    corruption = wording.one_line((row.get("edge") or {}).get("corruption") or "")
    return ", ".join(part for part in (f"{wording.observed_with_interval(row)} {unit}".strip(), corruption) if part)


def _path(row: dict[str, Any]) -> Path | None:
    edge = row.get("edge")
    if not isinstance(edge, dict) or not edge or row.get("observed") is None:
        return None
    sources, targets = _families(edge.get("from")), _families(edge.get("to"))
    if not sources or not targets or set(sources) & set(targets):
        return None
    into, at = (wording.one_line(edge.get(key) or "") for key in ("into", "at"))
    return Path(sources, targets, into, at, (row,))


def _families(given: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        return {}
    lists = {name: heads if isinstance(heads, list | tuple) else [] for name, heads in given.items()}
    return {wording.one_line(name) or UNNAMED: tuple(map(wording.one_line, heads)) for name, heads in lists.items()}
