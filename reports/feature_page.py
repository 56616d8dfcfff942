"""The feature page: dashboards of an SAE's features beside what was claimed of them; one file that opens from disk.

The SAE as a whole comes first, with the panels of its numbers; then an index; then each feature with its claims and dashboard.
"""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from circuit_claims.reports import figures, multiplicity, wording
from circuit_claims.reports.document import document
from circuit_claims.reports.features import Portrayed, feature_of, with_dashboard
from circuit_claims.reports.figures.canvas import finite
from circuit_claims.reports.figures.feature import percentage
from circuit_claims.reports.page import anchors_of, claim_of, figures_of

#: What the page says of the SAE, by the keys of `Row.sae`.
_FACTS = ("sae", "source", "sha256", "hook", "architecture", "features", "trained_on")


def feature_page(meta: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str | None:
    """The page, or None where no row brings a dashboard."""
    found = with_dashboard(rows)
    if not found:
        return None
    anchors, holm = anchors_of(rows), multiplicity.holm_marks(rows)
    lines = {id(row): claim_of(row, anchors[id(row)], holm[id(row)]) for row in rows}
    of_whole = [row for row in rows if _sae_of(row) and feature_of(row) is None]
    whole = [lines[id(row)] for row in of_whole]
    # What is asked of features, as the columns of the index: the claims' names without what they are of.
    asked = list(dict.fromkeys(_asked(row) for feature in found for row in feature.rows))
    return document(
        "features.html.j2",
        subject=dict(wording.facts(meta, rows)).get("subject", "no subject named"),
        facts=_facts(found),
        whole=whole,
        panels=figures_of(of_whole, whole),
        asked=asked,
        features=[_feature(feature, asked, lines) for feature in found],
    )


def _feature(feature: Portrayed, asked: Sequence[str], lines: dict[int, dict[str, Any]]) -> dict[str, Any]:
    drawing = figures.draw(feature.dashboard["figure"], f"dashboard-{feature.anchor}")
    return {
        "anchor": feature.anchor,
        "number": feature.number,
        "meaning": feature.meaning,
        "density": _density(feature),
        "claims": [lines[id(row)] for row in feature.rows],
        "answers": [[lines[id(row)] for row in feature.rows if _asked(row) == question] for question in asked],
        "caption": drawing.caption,
        "svg": Markup(drawing.svg),
        "html": Markup(drawing.html),
        "note": drawing.note,
        "failure": drawing.failure,
    }


def _asked(row: dict[str, Any]) -> str:
    return wording.readable_name(str(row.get("claim_id") or "").partition("[")[0])


def _density(feature: Portrayed) -> str:
    try:
        density = finite(feature.dashboard["figure"].get("density"))
    except (TypeError, ValueError):
        density = None
    return wording.NOTHING if density is None else percentage(density)


def _facts(found: Sequence[Portrayed]) -> list[tuple[str, str]]:
    """What the rows say of the SAE; where a run has several, each fact of all of them."""
    said = [_sae_of(feature.dashboard) for feature in found]
    listed = []
    for key in _FACTS:
        values = list(dict.fromkeys(wording.one_line(sae[key]) for sae in said if sae.get(key) not in (None, "")))
        if values:
            listed.append(({"sae": "SAE", "sha256": "sha256 of the SAE"}.get(key, key.replace("_", " ")), ", ".join(values)))
    return listed


def _sae_of(row: dict[str, Any]) -> dict[str, Any]:
    return row["sae"] if isinstance(row.get("sae"), dict) else {}
