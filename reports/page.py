"""The HTML report: one file that opens from disk, with its style, script and drawings inside."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fixtures.rows import REFUTED, VERDICTS
from reports import figures, multiplicity, wording

TEMPLATES = Path(__file__).parent / "templates"

_LINK = re.compile(r"https://[^\s<>\"']+[^\s<>\"'.,;:)\]]|arXiv:(\d{4}\.\d{4,5}(?:v\d+)?)")


def page(meta: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The whole report as one HTML document."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    anchors, holm = _anchors(rows), multiplicity.holm_marks(rows)
    chapters = []
    for circuit, chapter in wording.by_circuit(rows).items():
        claims = [_claim(row, anchors[id(row)], holm[id(row)]) for row in chapter]
        chapters.append(
            {
                "circuit": wording.chapter_title(circuit, chapter, meta),
                "line": wording.counts_line(chapter),
                "claims": claims,
                "figures": _figures(chapter, claims),
            }
        )
    found = wording.counts(rows)
    return environment.get_template("report.html.j2").render(
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # Only the script with this hash may run: should a prompt ever get past the escaping, the browser refuses it.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        subject=dict(wording.facts(meta, rows)).get("subject", "no subject named"),
        facts=wording.facts(meta, rows),
        errors=multiplicity.note(rows),
        warnings=[str(warning) for warning in meta.get("warnings") or []],
        total=len(rows),
        counts=[(verdict, css_class(verdict), n) for verdict, n in found.items()],
        legend=[(verdict, css_class(verdict), wording.MEANINGS[verdict]) for verdict in VERDICTS],
        chapters=chapters,
    )


def css_class(verdict: str) -> str:
    """`known false` -> `v-known-false`."""
    return "v-" + re.sub(r"[^a-z]+", "-", verdict.lower()).strip("-")


def linked(text: Any) -> Markup:
    """Text with its https addresses and arXiv numbers made links."""
    text, parts, end = wording.one_line(text or ""), [], 0
    for match in _LINK.finditer(text):
        address = f"https://arxiv.org/abs/{match[1]}" if match[1] else match[0]
        parts += [escape(text[end : match.start()]), Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, match[0])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def _finalize(value: Any) -> Any:
    """Every value on its way into the page: markup as it is, all else as text with its control characters spelled out."""
    return value if isinstance(value, Markup) else wording.visible("" if value is None else value)


def _claim(row: dict[str, Any], anchor: str, holm: str) -> dict[str, Any]:
    verdict = str(row.get("verdict") or "no verdict")
    return {
        "anchor": anchor,
        "name": wording.readable_name(row.get("claim_id")),
        "statement": row.get("statement"),
        "expected": wording.expected(row),
        "observed": wording.observed(row),
        "interval": wording.interval(row),
        "measure": _measure(row),
        "strip": Markup(figures.strip(row)),
        "n": wording.sample_size(row),
        "margin": wording.margin(row),
        "verdict": verdict,
        "verdict_class": css_class(verdict),
        "holm": holm,
        "reason": row.get("reason"),
        "source": linked(row.get("source")),
        "counterexample": _counterexample(row.get("counterexample") or {}),
        "details": _details(row),
        "readings": [reading._replace(source=linked(reading.source)) for reading in wording.readings(row)],
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
        **_drawing(row, anchor),
    }


def _figures(chapter: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The claims that have a figure, those that share one together: several claims read one sweep."""
    shared: dict[str, list[dict[str, Any]]] = {}
    for row, claim in zip(chapter, claims, strict=True):
        if claim["drawing"] or claim["no_drawing"]:
            shared.setdefault(json.dumps(row["figure"], sort_keys=True), []).append(claim)
    return list(shared.values())


def _drawing(row: dict[str, Any], anchor: str) -> dict[str, Any]:
    """The row's figure, or in a sentence why there is none: a figure that cannot be drawn must not cost the report."""
    figure = row.get("figure") or {}
    kind, prefix = figure.get("kind"), f"figure-{anchor}"
    drawing, note, failure = "", "", ""
    try:
        if kind == "heatmap":
            drawing = figures.heatmap(figure, prefix)
            note = "Outlined: the heads that the card names." if figure.get("marks") else ""
        elif kind == "distribution":
            drawing, note = figures.distribution(figure, prefix), figures.distribution_note(figure)
        elif figure:
            failure = f"This report cannot draw a figure of the kind {kind!r}."
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        failure = f"The figure could not be drawn: {error}."
    caption = figure.get("title") or {"heatmap": "Heatmap", "distribution": "Distribution"}.get(kind, "Figure")
    return {"caption": caption, "note": note, "drawing": Markup(drawing), "no_drawing": failure}


def _measure(row: dict[str, Any]) -> str:
    unit = "" if wording.is_rate(row) or wording.is_rank(row) else row.get("unit") or ""
    return ", ".join(str(part) for part in dict.fromkeys((row.get("quantity"), unit)) if part)


def _details(row: dict[str, Any]) -> list[tuple[str, str]]:
    listed = [
        ("claim", row.get("claim_id")),
        ("kind", row.get("kind")),
        ("subject", row.get("subject")),
        ("weight mode", row.get("mode")),
        ("BOS prepended", {True: "yes", False: "no"}.get(row.get("prepend_bos"))),
        ("seed", row.get("seed")),
        ("profile", row.get("profile")),
        ("duration", wording.duration(row["duration_s"]) if row.get("duration_s") is not None else None),
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


def _anchors(rows: Sequence[dict[str, Any]]) -> dict[int, str]:
    """An address within the page for each row, the same from run to run; repeats are numbered."""
    anchors: dict[int, str] = {}
    taken: dict[str, int] = {}
    for row in rows:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", str(row.get("claim_id") or "claim")).strip("-") or "claim"
        taken[slug] = taken.get(slug, 0) + 1
        anchors[id(row)] = slug if taken[slug] == 1 else f"{slug}--{taken[slug]}"
    return anchors
