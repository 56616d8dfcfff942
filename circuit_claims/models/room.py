"""Whether there is room for a model that is to be written into the cache: said before, and not after minutes."""

import shutil
from pathlib import Path

import psutil

from circuit_claims.models.disk_cache import cache
from circuit_claims.models.subject_error import SubjectError

#: Bytes of a weight in float32, as which weights are computed before they are written.
FLOAT32 = 4


def refuse_without_room(file: Path, n_parameters: int) -> None:
    """Raise SubjectError where memory or disk is too small for the model of this file or folder."""
    # Once as they are collected, and once in the model.
    needed, free = 2 * FLOAT32 * n_parameters + 5e8, psutil.virtual_memory().available
    if needed > free:
        raise SubjectError(
            f"reading {file} needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: free some, or name "
            "a smaller model"
        )
    needed, free = FLOAT32 * n_parameters, shutil.disk_usage(cache()).free
    if needed > free:
        raise SubjectError(
            f"the weights of {file} take {needed / 1e9:.1f} GB in {cache()} and {free / 1e9:.1f} GB are free: make room there, "
            "or set XDG_CACHE_HOME to another folder"
        )
