"""HTML documents of this suite: one file that opens from disk, with its style and script inside.

A page is a template that extends `base.html.j2` and fills its blocks; style and script are the report's own, so that all look
alike.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from circuit_claims.reports import wording

TEMPLATES = Path(__file__).parent / "templates"


def document(template: str, *, scripted: bool = False, **values: Any) -> str:
    """A template of `TEMPLATES` with its values, as a whole document.

    scripted: whether it carries the report's script, by which its tables sort and its claims are filtered.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8") if scripted else ""
    return (
        _environment(TEMPLATES)
        .get_template(template)
        .render(
            style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            # Only the script with this hash may run: should a prompt ever get past the escaping, the browser refuses it.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **values,
        )
    )


@cache
def _environment(templates: Path) -> Environment:
    """Made once, since it keeps the templates that it has compiled; one whose file has changed is compiled anew."""
    return Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def css_class(verdict: str) -> str:
    """`known false` -> `v-known-false`."""
    return "v-" + re.sub(r"[^a-z]+", "-", verdict.lower()).strip("-")


def _finalize(value: Any) -> Any:
    """Every value on its way into the page: markup as it is, all else as text with its control characters spelled out."""
    return value if isinstance(value, Markup) else wording.visible("" if value is None else value)
