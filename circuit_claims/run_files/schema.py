"""What a run file may say, as a pydantic model; its options are those that pytest takes, from the same list.

subject: smollm2
claims: [ioi, induction]
select: name_movers
options:
  max-prompts: 480
report: reports/smollm2
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from circuit_claims.fixtures.options import OPTIONS

#: Options that have a key of their own, or another spelling that a file should use, or no effect.
ELSEWHERE = ("subject", "report-dir", "prepend-bos", "no-prepend-bos", "drop-names")
#: Options whose value may be the path of a file or a folder.
PATHS = ("card", "sae", "sae-text", "names", "against")

_STRICT = ConfigDict(extra="forbid", populate_by_name=True, strict=True)


class _Base(BaseModel):
    model_config = _STRICT


def _field(name: str, attributes: dict[str, Any]) -> tuple[Any, Any]:
    choices, action = attributes.get("choices"), attributes.get("action")
    if choices:
        kind: Any = Literal[tuple(choices)]
    elif action == "store_true":
        kind = bool
    else:
        kind = {int: int, float: float}.get(attributes.get("type", str), str)
    text = attributes["help"]
    return kind | None, Field(None, alias=name if "-" in name else None, description=text)


_FIELDS: Any = {
    name.replace("-", "_"): _field(name, attributes) for name, attributes in OPTIONS.items() if name not in ELSEWHERE
}
#: The options of a run, by the names that they have on the command line, less the dashes before them.
Options: type[BaseModel] = create_model(
    "Options",
    __base__=_Base,
    __doc__="Options about claims, as `pytest --help` lists them; what is left out has its default.",
    **_FIELDS,
)


class RunFile(_Base):
    """A run of claims about circuits (`circuit-claims run --config FILE`)."""

    subject: str = Field("auto", description="the model under test, as for --subject; a path is relative to this file")
    claims: list[str] = Field(
        [],
        description="chapters of the suite (ioi, induction ...), or paths of claims of your own, relative to this file; "
        "left out, the whole suite",
    )
    select: str = Field("", description="only the claims that this expression matches, as for pytest's -k")
    options: Options = Field(default_factory=Options, description="options about claims")  # pyright: ignore[reportInvalidTypeForm]
    hypothesis_profile: Literal["fast", "default", "explore"] = Field("default", description="of universal claims")
    workers: int = Field(0, ge=0, description="processes of pytest-xdist; 0 for none")
    report: str = Field("circuit-claims-report", description="folder for the report, relative to this file")
    made_with: dict[str, Any] | None = Field(
        None,
        description="versions, commit, device and weights of the run that wrote this file; compared, and otherwise ignored",
    )


def keys_of(where: tuple[str, ...]) -> list[str]:
    """The keys that a run file may have at a place: () for its top, ("options",) for its options."""
    model = Options if where and where[0] == "options" else RunFile
    return [field.alias or name for name, field in model.model_fields.items()]
