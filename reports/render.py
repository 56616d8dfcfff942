"""Rows in, files out: report.md, report.html, features.html where rows bring dashboards, claims.csv and claims.json,
each of them whole or not there.

Equal input gives equal bytes, so two reports can be compared with `diff`.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_claims.reports import bases, chapters, multiplicity, wording
from circuit_claims.reports.contested import Dispute, disputes, set_up_of
from circuit_claims.reports.feature_page import feature_page
from circuit_claims.reports.features import FILE
from circuit_claims.reports.overview.circuit import NOTE_OF_TABLE, circuit_of, lines_of
from circuit_claims.reports.overview.summary import summary
from circuit_claims.reports.page import page
from circuit_claims.verdicts.rows import COLUMNS, plain

#: What would be markup in a line of GitHub's markdown, each where it would be: an underscore within a word is none.
_MARKS = re.compile(
    r"[`*|~$]"
    r"|\](?=[(\[:])"
    r"|\\(?=[!-/:-@\[-`{-~])"
    r"|<(?=[A-Za-z/!?])"
    r"|&(?=#|[A-Za-z][A-Za-z0-9]*;)"
    r"|(?<![^\W_])_|_(?![^\W_])"
)


def render(meta: dict[str, Any], rows: Sequence[dict[str, Any]], out: Path) -> Path:
    """Write every format into the folder `out`, in place of an earlier report, and return the path of report.html."""
    meta, rows = plain(meta), [_complete(row) for row in plain(rows)]
    texts = {
        "report.md": markdown(meta, rows),
        "claims.csv": csv(rows),
        "claims.json": json.dumps({"meta": meta, "rows": rows}, indent=1, allow_nan=False) + "\n",
        "report.html": page(meta, rows),
    }
    if (dashboards := feature_page(meta, rows)) is not None:
        texts[FILE] = dashboards
    out.mkdir(parents=True, exist_ok=True)
    # All formats are written before the first takes its name: an earlier report is replaced by a complete one or not at all.
    temporary = {name: out / f".{name}.{os.getpid()}.tmp" for name in texts}
    try:
        for name, text in texts.items():
            # A lone surrogate, which a tokenizer can produce, has no UTF-8: it becomes a question mark.
            temporary[name].write_bytes(text.encode("utf-8", errors="replace"))
        for name, path in temporary.items():
            path.replace(out / name)
        if FILE not in texts:
            (out / FILE).unlink(missing_ok=True)  # an earlier run's features are none of this report's
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return out / "report.html"


def markdown(meta: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The report as GitHub-flavoured markdown."""
    # Pandas costs half a second to import; only a report needs it.
    from pandas import DataFrame

    parts = ["# Claims: expected against observed", "\n".join(f"- {markdown_text(said)}" for said in bases.sentences(rows))]
    parts += [*_summary_parts(rows), markdown_text(bases.verdicts_line(rows)), multiplicity.note(rows)]
    holm = multiplicity.holm_marks(rows)
    parts += [f"**Warning:** {markdown_text(warning)}" for warning in meta.get("warnings") or []]
    parts.append("\n".join(f"- {label}: {markdown_text(value)}" for label, value in wording.facts(meta, rows)))

    def table(lines: Sequence[dict[str, str]]) -> str:
        return DataFrame(list(lines), dtype=object).to_markdown(index=False, disable_numparse=True)

    in_chapters = chapters.by_chapter(rows)
    titles = {folder: markdown_text(chapters.title_of(folder, chapter, meta)) for folder, chapter in in_chapters.items()}
    if len(in_chapters) > 1:
        parts += ["## Chapters", table([_contents_line(titles[folder], rows, in_chapters[folder]) for folder in in_chapters])]
    for folder, chapter in in_chapters.items():
        if (circuit := circuit_of(chapter, "", "")) is not None:
            lines = [{key: markdown_text(text) for key, text in line.items()} for line in lines_of(circuit)]
            parts += [f"## The circuit: {titles[folder]}", NOTE_OF_TABLE, table(lines)]
    contested = [line for dispute in disputes(rows) for line in _contested_lines(dispute)]
    if contested:
        about = "Numbers of sources that contradict each other, beside what this run found; inside or outside its interval."
        parts += ["## Contested numbers", about, table(contested)]
    for folder, chapter in in_chapters.items():
        parts += [
            f"## {titles[folder]}",
            table([_markdown_row(row, holm[id(row)], any(map(bases.beside, chapter))) for row in chapter]),
        ]
    examples = [line for row in rows if (line := _counterexample_line(row))]
    if examples:
        parts += ["## Counterexamples", "\n".join(examples)]
    meanings = [
        f"- **{basis}**: {bases.MEANINGS[basis]}"
        for basis in dict.fromkeys(map(bases.basis_of, rows))
        if basis in bases.MEANINGS
    ]
    parts += ["## What the verdicts rest on", "\n".join(meanings)] if meanings else []
    parts += ["## How to read the verdicts", "\n".join(f"- **{word}**: {text}" for word, text in wording.MEANINGS.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary_parts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows in words: paragraphs, and a list of roles and chapters."""
    told = summary(rows)
    said = [*told.topics, *((title, sentence) for _, title, sentence in told.chapters)]
    listed = "\n".join(f"- **{markdown_text(about)}:** {markdown_text(sentence)}" for about, sentence in said)
    return [markdown_text(told.lead), listed, markdown_text(told.missing)]


def markdown_text(text: Any) -> str:
    """Text that stays text inside a markdown table: a backslash before what would be markup, line breaks as `↵`."""
    return _MARKS.sub(r"\\\g<0>", wording.one_line(text))


def csv(rows: Sequence[dict[str, Any]]) -> str:
    """One line a claim, the columns of the schema and `holm`; nested fields as JSON, a missing value as an empty cell."""
    from pandas import DataFrame

    holm = multiplicity.holm_marks(rows)
    flat = [{key: _flat(value) for key, value in row.items()} | {"holm": holm[id(row)]} for row in rows]
    columns = list(dict.fromkeys([*COLUMNS, "holm", *(key for row in rows for key in row)]))
    return DataFrame(flat, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n")


def _markdown_row(row: dict[str, Any], holm: str, with_beside: bool) -> dict[str, str]:
    return {
        "claim": markdown_text(wording.name_of(row)),
        "statement": markdown_text(row["statement"] or ""),
        "expected": markdown_text(bases.expected(row) + (" (contested)" if wording.readings(row) else "")),
        "basis": markdown_text(bases.label(row)),
        "observed": wording.observed_with_interval(row),
        "n": wording.sample_size(row),
        "margin": wording.margin(row),
        "verdict": markdown_text(row["verdict"] or "no verdict"),
        "holm": holm,
        "reason": markdown_text(wording.reason(row)),
        "source": markdown_text(row["source"] or ""),
    } | ({"beside": markdown_text(bases.beside_line(row))} if with_beside else {})


def _contents_line(title: str, rows: Sequence[dict[str, Any]], chapter: Sequence[dict[str, Any]]) -> dict[str, str]:
    found = wording.counts(chapter)
    return {"chapter": title, "claims": f"{len(chapter):,}"} | {
        markdown_text(verdict): str(found.get(verdict) or "") for verdict in wording.counts(rows)
    }


def _contested_lines(dispute: Dispute) -> list[dict[str, str]]:
    """This run's rows of one contested number, then the sources' readings of it."""
    lines = []
    for number, row in enumerate(dispute.rows, start=1):
        name = wording.name_of(row)
        whose = f"{number} · {name}" if len(dispute.rows) > 1 else name
        observed = wording.observed_with_interval(row)
        lines.append((whose, observed, set_up_of(row), row["source"] or "", row["verdict"] or "no verdict"))
    lines += [("published", said.value, said.setup, said.source, place) for said, place in dispute.readings]
    keys = ("whose", "value", "set-up", "source", "against this run")
    named = [dict(zip(keys, map(markdown_text, line), strict=True)) for line in lines]
    return [{"quantity": markdown_text(dispute.quantity) if line is named[0] else ""} | line for line in named]


def _counterexample_line(row: dict[str, Any]) -> str:
    """A refuted claim's prompt, where it comes from, and what the model says to it."""
    example = row["counterexample"] or {}
    if not example.get("prompt"):
        return ""
    said = "; ".join(f"{key}: {example[key]}" for key in ("population", "value", "batch_mean") if example.get(key) is not None)
    tokens = ", ".join(f"{token!r} {p:.3g}" for token, p in example.get("top_tokens") or [])
    name = wording.name_of(row)
    return "- " + markdown_text(f"{name}: “{example['prompt']}” ({said})" + (f"; likeliest tokens {tokens}" if tokens else ""))


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _complete(row: dict[str, Any]) -> dict[str, Any]:
    """The row with every column of the schema, in its order, whatever wrote it."""
    return dict.fromkeys(COLUMNS) | row
