"""The three files of a found circuit."""

from pathlib import Path

from circuit_claims.circuit_command.result import FoundCircuit
from circuit_claims.edges.errors import EdgeError
from circuit_claims.files_together import FilesTogether, json_bytes

FILES = ("circuit.svg", "edges.csv", "circuit.json")
_TOGETHER = FilesTogether(FILES, frozenset({"circuit", "edges", "provenance"}), "search for a circuit", EdgeError)

refuse_to_overwrite = _TOGETHER.refuse_to_overwrite


def save(found: FoundCircuit, folder: Path, *, command: str | None = None) -> list[Path]:
    """Write figure, edges and all of it as JSON; the paths.

    Raises EdgeError where the folder cannot be written, or holds files of these names that are of no circuit.
    """
    return _TOGETHER.write(folder, (found.svg().encode(), found.csv().encode(), json_bytes(found.to_json(command))))
