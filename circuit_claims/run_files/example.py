"""A run file to begin with, in which every option is explained."""

from typing import Any

from circuit_claims.run_files.schema import Options, RunFile


def example() -> str:
    """A YAML file with every key; options that have no value are commented out."""
    lines = [
        "# yaml-language-server: $schema=circuit-claims.schema.json",
        "# (circuit-claims config schema > circuit-claims.schema.json)",
    ]
    values = {"subject": "mini", "claims": "[ioi]", "select": '""', "hypothesis_profile": "default", "workers": "0"}
    values["report"] = "circuit-claims-report"
    for name, value in values.items():
        lines += ["", f"# {RunFile.model_fields[name].description}", f"{name}: {value}"]
    lines += ["", "# what is left out has its default", "options:"]
    for name, field in Options.model_fields.items():
        lines += [f"  # {field.description}", f"  # {field.alias or name}: {_default(field.alias or name)}"]
    return "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of run files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunFile.model_json_schema(by_alias=True)}


def _default(option: str) -> str:
    from circuit_claims.fixtures.options import OPTIONS

    value = OPTIONS[option].get("default")
    return "..." if value is None else str(value).lower() if isinstance(value, bool) else str(value)
