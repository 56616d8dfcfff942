"""Models of Hugging Face's hub: in its local cache, or downloaded into it once.

Small files come first, so that of the weights only those come that config.json and the index name: repositories keep the same
weights in several formats. Pickles never come.
"""

import glob
import json
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from circuit_claims.models.checkpoint import INDEX, SINGLE, some_of, weight_files
from circuit_claims.models.hub_errors import asked_of_the_hub, downloaded
from circuit_claims.models.hub_name import MAIN, HubName, read_hub_name
from circuit_claims.models.subject_error import SubjectError

FAST = "tokenizer.json"
#: One of these is in every snapshot with a tokenizer that knows offsets.
TOKENIZER_FILES = (FAST, "vocab.json", "tokenizer.model", "vocab.txt")
#: What says what a model is: the first is in every model's repository, the second in every adapter's.
CONFIGS = ("config.json", "adapter_config.json")
SMALL_FILES = (".json", ".txt", ".model")
#: Bytes of a file that come in seconds.
QUICK = 10_000_000
WEIGHTS, PICKLES, GGUF = ".safetensors", (".bin", ".pt", ".pth"), ".gguf"


def cached(name: str) -> Path | None:
    """The snapshot in Hugging Face's local cache, where it is complete; no network is touched.

    One whose download was broken off is not: it is taken up again.

    Raises SubjectError where the name is no hub model's.
    """
    named = read_hub_name(name)
    found = ((hub_id, _snapshot(hub_id, named.revision)) for hub_id in named.cached_as)
    return next((folder for hub_id, folder in found if folder and not _lacks(folder, hub_id)), None)


def _snapshot(hub_id: str, revision: str) -> Path | None:
    """The snapshot of a branch, a tag or a commit that the cache holds, or holds a part of."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(hub_id, file, revision=revision or MAIN) for file in CONFIGS)
    return next((Path(config).parent for config in found if isinstance(config, str)), None)


def _listing(folder: Path, hub_id: str) -> list[str] | None:
    """The files that the hub has at that commit, where it has been asked for them; transformers does not ask."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [file.path for file in get_cached_repo_tree(hub_id, revision=folder.name)]
    except CachedRepoTreeNotFoundError:
        return None


def _lacks(folder: Path, hub_id: str) -> str:
    """What a snapshot lacks to be loaded as the hub has it; "" where it lacks nothing, as far as is known."""
    listing = _listing(folder, hub_id)
    if listing is not None:
        wanted = _read_on_loading(listing) | weights_to_load(folder, listing)
        missing = sorted(file for file in wanted if not (folder / file).exists())
        return f"it lacks {some_of(missing)}" if missing else ""
    if not any((folder / file).exists() for file in TOKENIZER_FILES):
        return "it lacks a tokenizer"
    try:
        weight_files(folder, _config(folder))
    except SubjectError as error:
        return str(error).partition(": ")[0].removeprefix(f"{folder} ")
    return ""


def _small(files: Iterable[str]) -> set[str]:
    return {file for file in files if "/" not in file and file.endswith(SMALL_FILES)}


def _read_on_loading(files: Iterable[str]) -> set[str]:
    """Of the small files those without which another model or another tokenizer would be loaded, or none.

    `from_pretrained` leaves the others where they are, and what it has put into the cache is whole.
    """
    small = _small(files)
    if FAST not in small:
        return small
    return small & {*CONFIGS, FAST, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIGS[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def weights_to_load(folder: Path, files: Collection[str]) -> set[str]:
    """Which of a repository's files hold the weights that transformers loads, with those that its index names in vain.

    folder: with its small files; files: the names of all that it has.
    """
    every = {file for file in files if "/" not in file and file.endswith(WEIGHTS)}
    chosen = _config(folder).get("transformers_weights") or (SINGLE if SINGLE in every else INDEX)
    if CONFIGS[1] in files or chosen not in files:
        return every  # an adapter, or attention weights by themselves: these may have any name
    if not chosen.endswith(".index.json"):
        return {chosen}
    try:
        named = json.loads((folder / chosen).read_text(encoding="utf-8"))["weight_map"].values()
        return {str(file) for file in named}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return every  # what is wrong with the index is said when the folder is looked at


def download(name: str) -> Path:
    """The snapshot of a hub model, downloaded into the local cache.

    Raises SubjectError where it cannot be had.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    named = read_hub_name(name)
    sizes = _ask(named)
    _refuse_what_is_no_model(named, sizes)
    small = _small(sizes)
    options: dict[str, Any] = {"revision": named.revision or MAIN, "ignore_patterns": ["*/*"], "tqdm_class": _no_bar()}
    # Ctrl-C waits for what `snapshot_download` has begun, which for weights may take an hour: these come in this thread, each
    # with its own bar.
    quick = [glob.escape(file) for file in small if sizes[file] < QUICK]
    with downloaded(named):
        folder = Path(snapshot_download(named.hub_id, allow_patterns=quick, **options))
        weights = weights_to_load(folder, sizes)
        _refuse_named_in_vain(named, weights - set(sizes))
        missing = sorted(file for file in small | weights if not (folder / file).exists())
        if missing:
            _say(named, missing, sizes)
        for file in missing:
            hf_hub_download(named.hub_id, file, revision=folder.name)  # the commit: all files are of one
    return folder


def gguf_file(name: str) -> Path:
    """A file of a hub model, from the local cache, or downloaded into it alone.

    Raises SubjectError where it cannot be had.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    named = read_hub_name(name)
    for hub_id in named.cached_as:
        found = try_to_load_from_cache(hub_id, named.file, revision=named.revision or MAIN)
        if isinstance(found, str):
            return Path(found)
    sizes = _ask(named)
    if named.file not in sizes:
        raise SubjectError(f"{named} has no {named.file} on the hub: {_files_to_name(named, sizes)}")
    _say(named, [named.file], sizes)
    with downloaded(named):
        return Path(hf_hub_download(named.hub_id, named.file, revision=named.revision or MAIN))


def described(name: str, found: Path) -> str:
    """Where a model came from, for the report.

    found: its snapshot or its file in the local cache.
    """
    named = read_hub_name(name)
    commit = found.parts[found.parts.index("snapshots") + 1] if "snapshots" in found.parts else ""
    file = f", file {named.file}" if named.file else ""
    return f"hub {named}{file}" + (f", commit {commit}" if commit and commit != named.revision else "")


def _ask(named: HubName) -> dict[str, int]:
    """The files that the hub has at this revision, with their sizes in bytes.

    Raises SubjectError where it cannot be asked, or where it says no.
    """
    from huggingface_hub import HfApi

    with asked_of_the_hub(named, _in_part(named)):
        info = HfApi().model_info(named.hub_id, revision=named.revision or MAIN, files_metadata=True)
        return {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}


def _in_part(named: HubName) -> str:
    """What the local cache's part of this model lacks; "" where it has no part of it."""
    folder = _snapshot(named.hub_id, named.revision)
    return _lacks(folder, named.hub_id) if folder else ""


def _refuse_what_is_no_model(named: HubName, files: Collection[str]) -> None:
    """Raise SubjectError, before anything is downloaded, where the repository has nothing that could be loaded."""
    there = {file for file in files if "/" not in file}
    pickled = any(file.endswith(PICKLES) for file in there)
    if there & set(CONFIGS) and any(file.endswith(WEIGHTS) for file in there):
        return
    if any(file.lower().endswith(GGUF) for file in files):
        raise SubjectError(f"{named} has its weights only as GGUF files on the hub: {_files_to_name(named, files)}")
    if not there & set(CONFIGS):
        raise SubjectError(f"{named} has no config.json on the hub, so it is no model that transformers reads: name another")
    if pickled:
        raise SubjectError(
            f"{named} has its weights on the hub only as pickles, which can run code: save them as safetensors with "
            f"`{_conversion(named)}`, where you trust them, and name the folder {_folder_for(named)}"
        )
    raise SubjectError(f"{named} has no weights as safetensors on the hub: name a repository or a revision that has")


def _conversion(named: HubName) -> str:
    # transformers reads a pickle as tensors alone (torch.load's weights_only).
    code = (
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        f"[it.from_pretrained({named.hub_id!r}, revision={named.revision or MAIN!r}).save_pretrained({_folder_for(named)!r}) "
        "for it in (M, T)]"
    )
    return f"python -c {shlex.quote(code)}"


def _folder_for(named: HubName) -> str:
    return named.hub_id.rpartition("/")[2]


def _refuse_named_in_vain(named: HubName, files: Collection[str]) -> None:
    if files:
        raise SubjectError(
            f"the index of {named} names files of weights that the hub does not have ({some_of(sorted(files))}): "
            "name another revision, or tell its owner"
        )


def _files_to_name(named: HubName, files: Iterable[str]) -> str:
    there = sorted(file for file in files if file.lower().endswith(GGUF))
    if not there:
        return "it has no GGUF files, so name the repository alone"
    start = f"{named.model}@{named.revision}" if named.revision else named.model
    return f"name one as {start}:FILE, of {', '.join(there[:12])}" + (f" and {len(there) - 12} more" if there[12:] else "")


def _say(named: HubName, files: Collection[str], sizes: Mapping[str, int]) -> None:
    """Say what begins, since it may take long: where there is no terminal, there is no bar either."""
    total = sum(sizes.get(file, 0) for file in files)
    size = f"{total / 1e9:.1f} GB" if total >= 1e8 else f"{total / 1e6:.1f} MB"
    what = f"{named} ({named.file})" if named.file else named
    print(f"downloading {what} from the hub once: {size}", file=sys.stderr)


def _no_bar() -> Any:
    """The hub's progress bar, never drawn: of those of a snapshot, one would be written into logs as well."""
    from huggingface_hub.utils import tqdm

    class NotDrawn(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"disable": True})

    return NotDrawn
