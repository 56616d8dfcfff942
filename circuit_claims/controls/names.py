"""The controls as subjects: from `planted:without-induction`, `random:mini` or `shuffled:NAME` to a folder and its card."""

from collections.abc import Callable
from pathlib import Path

from circuit_claims.models.folder import EMBEDDED, ModelFolder
from circuit_claims.models.subject_error import SubjectError

#: What each kind of control may be followed by, after a colon.
CONTROLS = ("planted", "random", "shuffled")
#: Whose card a control goes by, where its name does not say so.
MODELLED_ON = {"planted": "gpt2", "random": "gpt2"}
SHUFFLED_BY_DEFAULT = "planted"


def is_control(name: str) -> bool:
    """Whether this names a model that is written by code, in place of a folder or a hub model."""
    return name.partition(":")[0] in CONTROLS


def modelled_on(name: str) -> str:
    """The model whose card a control goes by; any other name stays as it is."""
    kind, _, rest = name.partition(":")
    if kind == "shuffled":
        return modelled_on(rest or SHUFFLED_BY_DEFAULT)
    if kind == "random" and rest:
        return rest
    return MODELLED_ON.get(kind, name)


def control_folder(name: str, find_folder: Callable[[str], ModelFolder]) -> tuple[Path, str]:
    """The folder of a control, written where the cache does not hold it yet, and where it came from, for the report.

    find_folder: where the model of a name lies (`circuit_claims.subjects.find`), for controls that are made of another model.

    Raises SubjectError where there is no such control, or where it cannot be written.
    """
    kind, _, rest = name.partition(":")
    try:
        if kind == "planted":
            return _planted(rest)
        return _random(rest, find_folder) if kind == "random" else _shuffled(rest, find_folder)
    except OSError as error:
        raise SubjectError(
            f"{name} cannot be written to the cache ({error}): make room there, or set XDG_CACHE_HOME to another folder"
        ) from error


def _planted(mutilation: str) -> tuple[Path, str]:
    from circuit_claims.controls.planted import MUTILATIONS, planted_folder

    if mutilation and mutilation not in MUTILATIONS:
        raise SubjectError(
            f"the planted model has no variant {mutilation!r}: name planted, or planted: and {', '.join(MUTILATIONS)}"
        )
    return planted_folder(mutilation), "written by code" + (f": {MUTILATIONS[mutilation].what}" if mutilation else "")


def _random(original: str, find_folder: Callable[[str], ModelFolder]) -> tuple[Path, str]:
    from circuit_claims.controls.random_copies import random_copy
    from circuit_claims.controls.random_weights import random_folder, random_like

    if not original:
        return random_folder(), "random weights, written by code"
    if original in EMBEDDED:
        return random_like(EMBEDDED[original]), "random weights, written by code"
    found = find_folder(original)
    return random_copy(found.path, found.weights, found.sha256()), f"random weights in the shape of {found.name}"


def _shuffled(original: str, find_folder: Callable[[str], ModelFolder]) -> tuple[Path, str]:
    from circuit_claims.controls.shuffled import CannotShuffle, shuffled_folder

    found = find_folder(original or SHUFFLED_BY_DEFAULT)
    try:
        return shuffled_folder(found.path, found.weights, found.sha256()), f"{found.name} with its heads at other places"
    except CannotShuffle as error:
        raise SubjectError(f"the heads of {found.name} cannot be shuffled ({error}): name another model") from error
