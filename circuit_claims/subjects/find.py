"""From a subject's name to a checked folder with its files, before anything is loaded.

Every way in which a name can be wrong ends here, in one sentence, before a claim runs: `SubjectError`.
"""

from pathlib import Path

from circuit_claims.controls.names import control_folder, is_control
from circuit_claims.models.folder import EMBEDDED, ModelFolder, inspect_folder
from circuit_claims.models.hub import cached, described, download, gguf_file
from circuit_claims.models.hub_name import read_hub_name, without_revision
from circuit_claims.models.smollm2 import NAME as SMOLLM2
from circuit_claims.models.smollm2 import SOURCE as SMOLLM2_SOURCE
from circuit_claims.models.smollm2 import smollm2_file
from circuit_claims.models.subject_error import SubjectError


def choose(name: str) -> tuple[str, str]:
    """What `auto` means here: (subject, remark for the header). Any other name stays as it is."""
    if name != "auto":
        return name, ""
    if cached("gpt2") is not None:
        return "gpt2", "found in the local cache; --subject mini takes the embedded model"
    return "mini", "embedded; --subject gpt2 downloads GPT-2 small once (0.5 GB)"


def find_folder(name: str) -> ModelFolder:
    """The folder of a subject: embedded, written by code, local, in the hub's local cache, or downloaded into it once.

    That of a GGUF file is made from it once, in the user's cache.

    Raises SubjectError where there is none, or where its files are not what they should be.
    """
    # Imported here, as below: it imports torch, which takes seconds, and collecting claims asks for `choose` alone.
    from circuit_claims.models.gguf import inspect_gguf, is_gguf

    if name in EMBEDDED:
        return inspect_folder(name, EMBEDDED[name], "embedded in this project")
    if name == SMOLLM2:
        return inspect_gguf(name, smollm2_file(), SMOLLM2_SOURCE)
    if is_control(name):
        return inspect_folder(name, *control_folder(name, find_folder))
    try:
        path = Path(name).expanduser()
        there, gguf = path.is_dir(), is_gguf(path)
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, an unknown ~user, a NUL
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise SubjectError(f"{name[:80]!r} cannot be a folder ({why}): check the path or the hub id") from error
    if gguf:
        return inspect_gguf(path.stem, path, f"GGUF file {path.name}")
    if there:
        return _inspect(path.resolve().name, path, f"folder {path.resolve().name}")
    if path.exists():
        raise SubjectError(
            f"{name} is a file, and a subject is a folder or a GGUF file: name the folder that holds config.json and the "
            "weights"
        )
    if name.startswith((".", "/", "~")) or without_revision(name).count("/") > 1:
        what = "GGUF file" if path.suffix.lower() == ".gguf" else "folder"
        raise SubjectError(f"there is no {what} {name}: check the path, or name a hub model as owner/model")
    if read_hub_name(name).file:
        file = gguf_file(name)
        return inspect_gguf(name, file, described(name, file))
    folder = cached(name) or download(name)
    return _inspect(name, folder, described(name, folder))


def _inspect(name: str, path: Path, source: str) -> ModelFolder:
    """The model in a folder, in whichever form it lies there."""
    from circuit_claims.models.checkpoint import has_adapter
    from circuit_claims.models.gguf import gguf_in, inspect_gguf

    if has_adapter(path):
        from circuit_claims.subjects.adapter import inspect_adapter

        return inspect_adapter(name, path, source, find_folder)
    if file := gguf_in(path):
        return inspect_gguf(name, file, f"{source}, GGUF file {file.name}")
    return inspect_folder(name, path, source)
