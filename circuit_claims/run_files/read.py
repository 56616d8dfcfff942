"""Read a run file, YAML or TOML, and say in one sentence what is wrong with it."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from circuit_claims.run_files.errors import RunFileError
from circuit_claims.run_files.schema import PATHS, RunFile, keys_of

SUFFIXES = (".yaml", ".yml", ".toml")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping of which no key is lost."""
        seen = set()
        for key, _ in node.value:
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_run_file(path: Path) -> RunFile:
    """The run file, its paths made absolute: they are relative to the file's folder.

    Raises RunFileError where it is not there, is neither YAML nor TOML, or says what no run file may say.
    """
    data = _parsed(path)
    if not isinstance(data, dict):
        raise RunFileError(f"{path} says nothing of a run: begin with a line such as `subject: mini`")
    if data.get("options", {}) is None:  # a key with nothing but comments below it
        del data["options"]
    try:
        found = RunFile.model_validate(data)
    except ValidationError as error:
        raise RunFileError(f"{path}: {_said(error)}") from error
    return _with_paths(found, path.resolve().parent)


def _parsed(path: Path) -> Any:
    if path.suffix.lower() not in SUFFIXES:
        raise RunFileError(f"{path} is no run file: give one that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RunFileError(f"{path} cannot be read ({error.strerror}): name a run file with --config") from error
    except UnicodeDecodeError as error:
        raise RunFileError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    try:
        return tomllib.loads(text) if path.suffix.lower() == ".toml" else _Loader(text).get_single_data()
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        kind = "TOML" if path.suffix.lower() == ".toml" else "YAML"
        raise RunFileError(f"{path} is no {kind} ({_parse_error(error)}): mend that place") from error


def _parse_error(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'cannot be read'}"


def _said(error: ValidationError) -> str:
    """The first fault: where, what, and what to write."""
    fault = error.errors()[0]
    place = tuple(str(part) for part in fault["loc"])
    where = ".".join(place)
    if fault["type"] == "extra_forbidden":
        known = keys_of(place[:-1])
        near = difflib.get_close_matches(place[-1].replace("_", "-"), known, 1) or difflib.get_close_matches(
            place[-1], known, 1
        )
        meant = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        return f"there is no key {where!r}: {meant}"
    expected = fault["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{where!r} is {fault['input']!r}, and should be {expected}"


def _with_paths(found: RunFile, folder: Path) -> RunFile:
    options: Any = found.options
    changed = {}
    for name in PATHS:
        field = name.replace("-", "_")
        value = getattr(options, field)
        if value is not None:
            changed[field] = _beside(value, folder)
    return found.model_copy(
        update={
            "subject": _beside(found.subject, folder),
            "claims": [_beside(claims, folder) for claims in found.claims],
            "options": options.model_copy(update=changed),
            "report": str(folder / Path(found.report).expanduser()),
        }
    )


def _beside(value: str, folder: Path) -> str:
    """A path that is there, seen from the file's folder, and anything else (a name) as it is; a test's id keeps its end."""
    path, colons, rest = value.partition("::")
    there = folder / Path(path).expanduser()
    try:
        return f"{there.resolve()}{colons}{rest}" if path and there.exists() else value
    except OSError:  # too long for a path
        return value
