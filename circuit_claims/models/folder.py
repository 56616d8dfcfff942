"""A model's folder with its files, checked before anything is loaded."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from circuit_claims.embedded import embedded
from circuit_claims.models.checkpoint import (
    INDEX,
    SINGLE,
    headers,
    refuse_codes,
    refuse_quantised,
    refuse_remote_code,
    weight_files,
)
from circuit_claims.models.subject_error import SubjectError

EMBEDDED = {"mini": embedded("models", "mini")}


@dataclass(frozen=True)
class ModelFolder:
    """A folder in Hugging Face's layout whose files have been looked at.

    name: how the user called it; source: where it came from, for the report; weights: the files that are loaded, and no others;
    n_parameters: as their headers say; originals: the files that this folder was made from, where it was made in the cache.
    """

    name: str
    path: Path
    source: str
    config: dict[str, Any]
    weights: tuple[Path, ...]
    n_parameters: int
    originals: tuple[Path, ...] = ()

    def sha256(self) -> str:
        """The checksum of the weight files that are loaded, in the order of their names; where they were made from others, of
        those.
        """
        return sha256_of(self.originals or self.weights)


def sha256_of(files: Iterable[Path]) -> str:
    """The checksum of files one after the other. A file that stays as it is is read once."""
    return _sha256(tuple((path, *_state(path)) for path in files))


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache
def _sha256(files: tuple[tuple[Path, int, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, *_ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def inspect_folder(name: str, path: Path, source: str) -> ModelFolder:
    """The folder of a model, its files looked at.

    Raises SubjectError where its files are not what they should be.
    """
    config_path = path / "config.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SubjectError(f"{path} has no config.json: name a folder that `model.save_pretrained(...)` has written") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SubjectError(f"{config_path} cannot be read as JSON ({error}): restore the file") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise SubjectError(f"{config_path} names no model_type: restore the file that `model.save_pretrained(...)` wrote")
    refuse_remote_code(path, config)
    refuse_quantised(path, config)
    # Attention weights by themselves may have any name; who loads a model asks `weight_files` again (`prepare`).
    others = tuple(sorted(path.glob("*.safetensors")))
    named = config.get("transformers_weights") or (path / SINGLE).exists() or (path / INDEX).exists()
    weights = weight_files(path, config) if named or not others else others
    tensors = headers(weights)
    refuse_codes(path, tensors)
    return ModelFolder(name, path, source, config, weights, sum(tensor.size for tensor in tensors.values()))
