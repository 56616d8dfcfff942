"""Which rows are about one feature of an SAE, and where on the feature page each of them stands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from circuit_claims.reports import wording

#: The page beside report.html.
FILE = "features.html"


@dataclass
class Portrayed:
    """A feature under one meaning: the row whose figure is its dashboard, and all rows about it."""

    sae: str
    number: str
    meaning: str
    anchor: str = ""
    dashboard: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def with_dashboard(rows: Sequence[dict[str, Any]]) -> list[Portrayed]:
    """The features that some row brings a dashboard of, in the order of their first rows."""
    found: dict[tuple[str, str, str], Portrayed] = {}
    for row in rows:
        if (about := feature_of(row)) is None:
            continue
        feature = found.setdefault(about, Portrayed(*about))
        feature.rows.append(row)
        if is_dashboard(row) and not feature.dashboard:
            feature.dashboard = row
    shown = [feature for feature in found.values() if feature.dashboard]
    taken: dict[str, int] = {}
    for feature in shown:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", feature.number).strip("-") or "unnamed"
        taken[slug] = taken.get(slug, 0) + 1
        feature.anchor = f"feature_{slug}" if taken[slug] == 1 else f"feature_{slug}--{taken[slug]}"
    return shown


def is_dashboard(row: dict[str, Any]) -> bool:
    """Whether a row's figure is a feature's dashboard, well made or not."""
    figure = row.get("figure")
    return isinstance(figure, dict) and figure.get("kind") == "feature"


def feature_of(row: dict[str, Any]) -> tuple[str, str, str] | None:
    """The SAE, the feature's number and its meaning; None for a row that is not about one feature."""
    given = row.get("sae")
    sae = given if isinstance(given, dict) else {}
    about = sae if "feature" in sae else row["figure"] if is_dashboard(row) else None
    if about is None:
        return None
    name, number, meaning = sae.get("sae") or about.get("sae"), about.get("feature"), about.get("meaning")
    return tuple("" if said is None else wording.one_line(said) for said in (name, number, meaning))  # type: ignore[return-value]
