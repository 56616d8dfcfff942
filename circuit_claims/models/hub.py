"""Models of Hugging Face's hub: in its local cache, or downloaded into it once."""

import json
from pathlib import Path

from circuit_claims.models.checkpoint import weight_files
from circuit_claims.models.subject_error import SubjectError

ALIASES = {"gpt2": "openai-community/gpt2"}
#: One of these is in every snapshot with a tokenizer that knows offsets.
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "vocab.txt")
HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model"]


def cached(name: str) -> Path | None:
    """The snapshot in Hugging Face's local cache, where it is complete; no network is touched.

    One whose download was broken off is not: it is taken up again.
    """
    from huggingface_hub import try_to_load_from_cache

    # `from_pretrained("gpt2")` keeps it under that name, the hub under its owner's.
    for hub_id in dict.fromkeys([ALIASES.get(name, name), name]):
        config = try_to_load_from_cache(hub_id, "config.json")
        folder = Path(config).parent if isinstance(config, str) else None
        if folder and not _lacks(folder):
            return folder
    return None


def _lacks(snapshot: Path) -> str:
    """What a snapshot lacks to be loaded, as far as names of files tell; "" where it lacks nothing."""
    if not any((snapshot / file).exists() for file in TOKENIZER_FILES):
        return "it lacks a tokenizer"
    try:
        config = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))
        weight_files(snapshot, config if isinstance(config, dict) else {})
    except SubjectError as error:
        return str(error).partition(": ")[0].removeprefix(f"{snapshot} ")
    except (OSError, ValueError):
        return "it lacks config.json"
    return ""


def whole(snapshot: Path, hub_id: str) -> Path:
    """The snapshot, unless the hub's client gave one in part, as it does where the network cannot be reached.

    Raises SubjectError there.
    """
    from huggingface_hub import constants

    # What the hub has is all there after a download; a file that the index names is on the hub.
    if constants.is_offline_mode() or "of its weights" in _lacks(snapshot):
        _refuse_part(hub_id)
    return snapshot


def _refuse_part(hub_id: str) -> None:
    """Raise SubjectError where a part of a model is in the local cache, and no more can be had."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(config, str) and (why := _lacks(Path(config).parent)):
        raise SubjectError(
            f"only a part of {hub_id} is in the local cache ({why}), and the hub cannot be reached: "
            "connect once to finish the download"
        )


def download(hub_id: str) -> Path:
    """The snapshot of a hub model, downloaded into the local cache.

    Raises SubjectError where it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise SubjectError(
            f"the hub wants you to accept the terms of {hub_id}: do so there and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise SubjectError(
            f"the hub has no model {hub_id!r}, and there is no folder of that name: check the spelling"
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        _refuse_part(hub_id)
        raise SubjectError(
            f"{hub_id} is not in the local cache and the hub cannot be reached: connect once to download it, "
            "name a local folder, or run with --subject mini"
        ) from error
    except (
        Exception
    ) as error:  # the hub's client wraps other clients' errors; whichever it is, the user can do the same about it
        raise SubjectError(
            f"{hub_id} could not be downloaded ({type(error).__name__}): try again, or name a local folder"
        ) from error
