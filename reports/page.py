"""The HTML report: one file that opens from disk, with its style, script and drawings inside."""

import json
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from circuit_claims.reports import bases, chapters, figures, multiplicity, wording
from circuit_claims.reports.contested import Dispute, disputes, set_up_of, value_of
from circuit_claims.reports.document import css_class, document
from circuit_claims.reports.features import FILE, is_dashboard, with_dashboard
from circuit_claims.reports.overview.circuit import NOTE, Circuit, circuit_of, lines_of
from circuit_claims.reports.overview.filters import filters_of, folder_of
from circuit_claims.reports.overview.summary import summary
from circuit_claims.reports.overview.untested import by_reason, is_untested
from circuit_claims.verdicts.rows import REFUTED, VERDICTS

_LINK = re.compile(r"https://[^\s<>\"']+[^\s<>\"'.,;:)\]]|arXiv:(\d{4}\.\d{4,5}(?:v\d+)?)")


def page(meta: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The whole report as one HTML document."""
    anchors, holm, dashboards = anchors_of(rows), multiplicity.holm_marks(rows), _dashboards(rows)
    in_chapters, titles, circuits = [], {}, []
    for number, (folder, chapter) in enumerate(chapters.by_chapter(rows).items(), start=1):
        claims = [claim_of(row, anchors[id(row)], holm[id(row)]) | dashboards.get(id(row), {}) for row in chapter]
        slug = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")
        titles[folder] = chapters.title_of(folder, chapter, meta)
        by_row = {id(row): claim for row, claim in zip(chapter, claims, strict=True)}
        if (circuit := circuit_of(chapter, f"The circuit: {titles[folder]}", f"circuit_{number}")) is not None:
            circuits.append(_circuit(circuit, titles[folder], by_row))
        in_chapters.append(
            {
                # No claim's anchor has an underscore; the number tells folders apart whose names differ in signs alone.
                "anchor": f"chapter_{number}_{slug}",
                "folder": folder,
                "title": titles[folder],
                "line": bases.heading_line(chapter),
                "counts": wording.counts(chapter),
                "claims": claims,
                "tested": [by_row[id(row)] for row in chapter if not is_untested(row)],
                "untested": [(why, [by_row[id(row)] for row in group]) for why, group in by_reason(chapter).items()],
                "figures": figures_of(chapter, claims),
                "features": sum(is_dashboard(row) for row in chapter),
            }
        )
    found = wording.counts(rows)
    told = summary(rows)
    return document(
        "report.html.j2",
        scripted=True,
        subject=dict(wording.facts(meta, rows)).get("subject", "no subject named"),
        facts=wording.facts(meta, rows),
        errors=multiplicity.note(rows),
        bases=bases.sentences(rows),
        bases_legend=[(basis, bases.MEANINGS[basis]) for basis in bases.MEANINGS if basis in map(bases.basis_of, rows)],
        warnings=[str(warning) for warning in meta.get("warnings") or []],
        total=len(rows),
        feature_page=FILE,
        counts=[(verdict, css_class(verdict), n) for verdict, n in found.items()],
        legend=[(verdict, css_class(verdict), wording.MEANINGS[verdict]) for verdict in VERDICTS],
        summary=told,
        line=wording.counts_line(rows),
        chapter_anchors={chapter["folder"]: chapter["anchor"] for chapter in in_chapters},
        circuits=circuits,
        circuit_note=NOTE,
        filters=filters_of(rows, titles),
        contested=[_dispute(dispute, anchors) for dispute in disputes(rows)],
        chapters=in_chapters,
    )


def linked(text: Any) -> Markup:
    """Text with its https addresses and arXiv numbers made links."""
    text, parts, end = wording.one_line(text or ""), [], 0
    for match in _LINK.finditer(text):
        address = f"https://arxiv.org/abs/{match[1]}" if match[1] else match[0]
        parts += [escape(text[end : match.start()]), Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, match[0])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def claim_of(row: dict[str, Any], anchor: str, holm: str) -> dict[str, Any]:
    """A row as a line of a table, for a template."""
    verdict = str(row.get("verdict") or "no verdict")
    return {
        "anchor": anchor,
        "name": wording.name_of(row),
        "statement": row.get("statement"),
        "expected": wording.expected(row),
        "basis": bases.basis_of(row),
        "basis_label": bases.label(row),
        "foreign": bases.is_foreign(row),
        "beside": bases.beside(row),
        "observed": wording.observed(row),
        "interval": wording.interval(row, brief=True),
        "measure": _measure(row),
        "strip": Markup(figures.strip(row)),
        "n": wording.sample_size(row),
        "margin": wording.margin(row),
        "verdict": verdict,
        "verdict_class": css_class(verdict),
        "folder": folder_of(row),
        "holm": holm,
        "reason": row.get("reason"),
        "source": linked(row.get("source")),
        "counterexample": _counterexample(row.get("counterexample") or {}),
        "details": _details(row),
        "readings": [reading._replace(source=linked(reading.source)) for reading in wording.readings(row)],
        "whole": wording.observed_with_interval(row),
        # To a claim about all prompts the counterexample is the finding; to one about a mean it is an illustration.
        "open": verdict == REFUTED and row.get("kind") == "universal",
        # What a heading sorts by; a verdict sorts by its place in the legend.
        "sort": {
            "expected": row.get("expected_low") if row.get("expected_low") is not None else row.get("expected_high"),
            "observed": row.get("observed"),
            "n": row.get("n") or None,
            "margin": row.get("margin"),
            "verdict": VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS),
        },
        "figure": "",  # where the chapter's figures are drawn, the address of its own
        "dashboard": "",  # and of a feature's dashboard, which stands on a page of its own
    }


def figures_of(chapter: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Figures of rows, each drawn once for all claims that show it: several claims read one sweep. Portraits are left out."""
    shared: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for row, claim in zip(chapter, claims, strict=True):
        if row.get("figure") and not is_dashboard(row):
            shared.setdefault(_what_it_shows(row), []).append((row, claim))
    drawn = []
    for shown in shared.values():
        # Of a sweep that several claims raced, the one that measured most.
        row, claim = max(shown, key=lambda pair: (pair[0].get("effects") or {}).get("measured") or 0)
        drawing = figures.draw(row["figure"], f"figure-{claim['anchor']}")
        anchor = f"figure_{claim['anchor']}"
        for _, one in shown:
            one["figure"] = anchor
        drawn.append(
            {
                "anchor": anchor,
                "caption": drawing.caption,
                "svg": Markup(drawing.svg),
                "note": drawing.note,
                "failure": drawing.failure,
                "claims": [one for _, one in shown],
            }
        )
    return drawn


def _circuit(circuit: Circuit, title: str, claims: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """A chapter's graph and the same as a table, each line with the claim that it is from."""
    lines = [line | {"row": claims[id(row)]} for line, (_, row) in zip(lines_of(circuit), circuit.table, strict=True)]
    return {"title": title, "svg": Markup(circuit.svg), "failure": circuit.failure, "lines": lines}


def _what_it_shows(row: dict[str, Any]) -> str:
    """What tells a row's figure from others: all of it, but of a raced sweep neither its values nor who measured how many."""
    figure = row["figure"]
    if row.get("effects"):
        figure = {key: value for key, value in figure.items() if key not in ("values", "counts")}
    return json.dumps(figure, sort_keys=True)


def _dashboards(rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, str]]:
    """For each row about a feature that has a dashboard, its address."""
    return {
        id(row): {"dashboard": f"{FILE}#{feature.anchor}", "feature": feature.number}
        for feature in with_dashboard(rows)
        for row in feature.rows
    }


def _dispute(dispute: Dispute, anchors: dict[int, str]) -> dict[str, Any]:
    """A contested number: this run's rows, then the sources' readings, all on one scale."""
    scale = dispute.scale()
    runs = []
    for number, row in enumerate(dispute.rows, start=1):
        verdict = str(row.get("verdict") or "no verdict")
        runs.append(
            {
                "anchor": anchors[id(row)],
                "name": wording.name_of(row),
                "number": number if len(dispute.rows) > 1 else "",
                "observed": wording.observed_with_interval(row),
                "strip": Markup(_on_scale(scale, row.get("observed"), wording.observed_with_interval(row), row)),
                "setup": set_up_of(row),
                "source": linked(row.get("source")),
                "verdict": verdict,
                "verdict_class": css_class(verdict),
            }
        )
    bands = [ends for row in dispute.rows if (ends := _ends(row)) is not None]
    readings = [
        {
            "value": reading.value,
            "strip": Markup(_on_scale(scale, value_of(given), f"{reading.value}: {place}", None, bands)),
            "setup": reading.setup,
            "source": linked(reading.source),
            "place": place,
        }
        for given, (reading, place) in zip(dispute.given, dispute.readings, strict=True)
    ]
    return {"quantity": dispute.quantity, "unit": dispute.rows[0].get("unit"), "runs": runs, "readings": readings}


def _on_scale(
    scale: tuple[float, float] | None, dot: float | None, said: str, row: dict[str, Any] | None, bands: Sequence[Any] = ()
) -> str:
    if scale is None or dot is None:
        return ""
    # What was observed is a full dot even where it has no interval.
    ends = None if row is None else _ends(row) or (dot, dot)
    return figures.on_scale(scale, said, dot=dot, ends=ends, bands=bands)


def _ends(row: dict[str, Any]) -> tuple[float, float] | None:
    low, high = row.get("ci_low"), row.get("ci_high")
    return None if low is None or high is None else (low, high)


def _measure(row: dict[str, Any]) -> str:
    unit = "" if wording.is_rate(row) or wording.is_rank(row) else row.get("unit") or ""
    return ", ".join(str(part) for part in dict.fromkeys((wording.populations(row), row.get("quantity"), unit)) if part)


def _details(row: dict[str, Any]) -> list[tuple[str, str]]:
    yes_no: dict[Any, str] = {True: "yes", False: "no"}
    listed = [
        ("claim", row.get("claim_id")),
        ("kind", row.get("kind")),
        ("basis", bases.label(row)),
        ("card", row.get("card")),
        ("subject", row.get("subject")),
        ("weight mode", row.get("mode")),
        ("BOS prepended", yes_no.get(row.get("prepend_bos"))),
        ("seed", row.get("seed")),
        ("profile", row.get("profile")),
        ("duration", wording.duration(row["duration_s"]) if row.get("duration_s") is not None else None),
        ("effects measured", wording.effects(row)),
        ("controls that refute it", ", ".join(str(control) for control in row.get("controls") or [])),
    ]
    return [(label, str(value)) for label, value in listed if value not in (None, "")]


def _counterexample(given: dict[str, Any]) -> dict[str, Any]:
    """The prompt, the tables of (token, number) pairs, and whatever else the counterexample says."""
    tables, facts = [], []
    for key, value in given.items():
        label = str(key).replace("_", " ")
        if key == "prompt" or value is None:
            continue
        pairs = list(value.items()) if isinstance(value, dict) else value
        if _is_table(pairs):
            numbered = [(wording.one_line(repr(token)), wording.number(float(f"{amount:.3g}"))) for token, amount in pairs]
            tables.append((label, numbered))
        elif isinstance(value, float):
            facts.append((label, wording.number(value)))
        else:
            facts.append((label, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    prompt = given.get("prompt")
    return {"prompt": None if prompt is None else str(prompt), "tables": tables, "facts": facts} if given else {}


def _is_table(pairs: Any) -> bool:
    return (
        isinstance(pairs, list)
        and bool(pairs)
        and all(
            isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int | float)
            for pair in pairs
        )
    )


def anchors_of(rows: Sequence[dict[str, Any]]) -> dict[int, str]:
    """An address within the page for each row, the same from run to run; repeats are numbered."""
    anchors: dict[int, str] = {}
    taken: dict[str, int] = {}
    for row in rows:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", str(row.get("claim_id") or "claim")).strip("-") or "claim"
        taken[slug] = taken.get(slug, 0) + 1
        anchors[id(row)] = slug if taken[slug] == 1 else f"{slug}--{taken[slug]}"
    return anchors
