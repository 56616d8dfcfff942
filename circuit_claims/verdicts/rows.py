"""The row: what one claim found, in one schema behind every format of the report.

A row holds plain builtins alone (strings, floats, ints, lists, dicts), since it travels between processes and into JSON.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

KINDS = ("behaviour", "invariance", "direction", "magnitude", "universal")

HOLDS = "holds"
REFUTED = "refuted"
INCONCLUSIVE = "inconclusive"
UNTESTED = "untested"
INVALID = "invalid"
KNOWN_FALSE = "known false"
NOW_TRUE = "now true"

VERDICTS = (HOLDS, REFUTED, INCONCLUSIVE, UNTESTED, INVALID, KNOWN_FALSE, NOW_TRUE)


@dataclass
class Row:
    """One claim, expected against observed.

    `op` is how the observation is held against the bound: ">", "<", "within", "rate >=", "top k" or "always >" and so on;
    the bounds that do not apply are None. `margin` is the signed distance from the interval to the nearest bound, in units of
    the expected value's size (of 1 where the expected value is 0): positive means that the claim holds with that much room.
    `basis` is where the expected value comes from: one of `circuit_claims.cards.bases.BASES`, "" where nothing was expected.
    `card` is the title of the card that it stands on, "" of a definition. `beside` is what is published for other models under
    the same name, and is no expectation of this one: {"value", "low", "high", "model", "source"} each.
    `exact`: the prompts (or weights) are all that the claim speaks of, so the interval has no width and no chance of missing.
    `readings` are the numbers of sources that contradict each other on the expected one: {"value", "setup", "source"} each.
    `figure` is what the report draws with the claim: {"kind": "heatmap", "title", "rows", "columns", "values", ...}, with
    "expected" of the same shape where a source gives every cell; {"kind": "distribution", "title", "unit", "values", "mean",
    "expected"}; {"kind": "curves", "title", "x", "x_axis", "y_axis", "curves": [{"label", "values", "low", "high"}], "marks":
    [{"x", "label"}]}; {"kind": "scatter", "title", "x_axis", "y_axis", "points": [{"label", "x", "y"}], "r"}; {"kind":
    "attention", "title", "tokens", "values", "query", "unit"}; {"kind": "histogram", "title", "x_axis", "of", "edges",
    "counts", "part": {"label", "counts"}, "apart": {"label", "count"}, "lines": [{"x", "label"}], "scale", "remark"};
    {"kind": "panels", "title", "x", "x_axis", "panels": [{"y_axis", "curves": [{"label", "values"}]}], "remark"}; or the
    dashboard of an SAE's feature, {"kind": "feature", ...}, for the feature page (see `circuit_claims.sae.dashboards`).
    "whose" says of a figure with "expected" whose numbers these are, where they are another model's.
    `sae` is the sparse autoencoder that the claim is about: {"sae", "source", "sha256", "hook", "architecture", "features"};
    with "feature" and "meaning" besides where the claim is about one feature.
    `effects`: of a sweep, how many effects (one cell on one prompt) were measured, and of how many, had all cells been measured
    on all prompts: {"measured", "of"}.
    `edge` is the path between heads that the claim is about: {"senders": ["L7H3", ...], "receivers": heads or "logits", "into":
    "q", "k", "v" or "", "at": "END", "corruption": "ABC", "from": {family: heads}, "to": {family: heads}}; heads that are in no
    family of the card stand under "".
    `populations`: of a universal claim, how many populations of prompts were tried; its interval is the range over them.
    """

    claim_id: str
    statement: str
    chapter: str
    kind: str = ""
    subject: str = ""
    weights_sha256: str = ""
    mode: str = ""
    prepend_bos: bool | None = None
    quantity: str = ""
    unit: str = ""
    op: str = ""
    basis: str = ""
    card: str = ""
    expected_low: float | None = None
    expected_high: float | None = None
    observed: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    exact: bool = False
    margin: float | None = None
    verdict: str = ""
    reason: str = ""
    source: str = ""
    seed: int | None = None
    profile: str = ""
    duration_s: float | None = None
    counterexample: dict[str, Any] | None = None
    controls: list[str] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    beside: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    figure: dict[str, Any] | None = None
    sae: dict[str, Any] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)
    edge: dict[str, Any] = field(default_factory=dict)
    populations: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The row as builtins, with NaN and infinities (which JSON has not) turned into None."""
        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples as lists, keys as strings, NaN and infinities as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)


def as_property(row: Row) -> tuple[str, str]:
    """The row as a property of a test report: a name and JSON.

    A string of ASCII goes unchanged through pytest-xdist, and into JUnit's XML, where a dict would become Python's repr.
    """
    # XML has no control characters, and pytest replaces them; JSON spells out all of them but this one.
    return "claim", json.dumps(row.as_dict(), ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")


def rows_of(properties: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The rows among the properties of a test report, as dicts; a plugin of the user's own may put in dicts."""
    found = [value for name, value in properties if name == "claim"]
    return [json.loads(value) if isinstance(value, str) else value for value in found]


COLUMNS = tuple(f.name for f in dataclasses.fields(Row))
