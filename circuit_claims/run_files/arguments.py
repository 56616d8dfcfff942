"""A run file as pytest's arguments, less what the command line says itself."""

from collections.abc import Sequence
from typing import Any

from circuit_claims.embedded import suite_folder
from circuit_claims.fixtures.options import OPTIONS, PREFIX
from circuit_claims.option_checks import BOS_SPELLINGS
from circuit_claims.run_files.schema import ELSEWHERE, RunFile

SUITE = "circuit_claims.claims"


def chapters() -> set[str]:
    """The names of the suite's chapters."""
    return {path.name for path in suite_folder().iterdir() if (path / "__init__.py").is_file()}


def pytest_arguments(file: RunFile, given: Sequence[str] = ()) -> list[str]:
    """The arguments that make the run; an option that is among `given`, the command line's own, is left out."""
    said = {argument.partition("=")[0] for argument in given if argument.startswith("-")}
    options: Any = file.options
    values: dict[str, Any] = {"subject": file.subject, "report-dir": file.report}
    values |= {name: getattr(options, name.replace("-", "_")) for name in OPTIONS if name not in ELSEWHERE}
    arguments = []
    for name, value in values.items():
        names = {f"--{name}", PREFIX + name}
        if name == "bos":
            names |= {spelling for option in BOS_SPELLINGS for spelling in (option, PREFIX + option.removeprefix("--"))}
        if value is None or value is False or names & said:
            continue
        arguments.append(PREFIX + name if value is True else f"{PREFIX}{name}={value}")
    if file.select and not {argument for argument in given if argument.startswith("-k")}:
        arguments += ["-k", file.select]
    if not {"--hypothesis-profile"} & said:
        arguments.append(f"--hypothesis-profile={file.hypothesis_profile}")
    if file.workers and not {argument for argument in given if argument.startswith("-n")}:
        arguments += ["-n", str(file.workers)]
    return arguments


def claims_of(file: RunFile) -> list[str]:
    """What pytest is told to collect: modules of the suite by their names, other claims by their paths."""
    names = chapters()
    return [f"{SUITE}.{claims}" if claims in names else claims for claims in file.claims] or [SUITE]
