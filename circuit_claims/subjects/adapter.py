"""Adapters of peft as subjects: applied to their base once, in a folder in the user's cache, and used from there.

What is tested is the adapted model with its adapter merged into its weights: everything else then looks at an ordinary
folder. Log-probabilities with the adapter beside the weights are held from before, and the merged model must give the same.
TransformerBridge cannot wrap layers with an adapter in them: it leaves out GPT-2's without a word, and cannot process any.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import torch

from circuit_claims.models.checkpoint import ADAPTER_FILES, INDEX, SINGLE, headers, some_of
from circuit_claims.models.disk_cache import code_of, fingerprint, kept
from circuit_claims.models.folder import ModelFolder, inspect_folder, sha256_of
from circuit_claims.models.hub import TOKENIZER_FILES
from circuit_claims.models.loading_guard import nothing_installed_or_downloaded
from circuit_claims.models.room import refuse_without_room
from circuit_claims.models.subject_error import SubjectError, first_line
from circuit_claims.subjects.faithful_boot import Reference, embedded, load_model, random_tokens

if TYPE_CHECKING:  # slow to import
    from peft import PeftModel
    from transformers import PreTrainedModel

CONFIG, WEIGHTS, PICKLE = ADAPTER_FILES
#: What a tokenizer is read from.
OF_THE_TOKENIZER = (
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template*", "*.model"),
)
#: The adapters whose bases are being looked for: one that is its own base would be looked for without end.
_looking: set[Path] = set()


def inspect_adapter(name: str, path: Path, source: str, find_folder: Callable[[str], ModelFolder]) -> ModelFolder:
    """The folder of the adapted model, made where the cache does not hold it, its files looked at.

    The base is the model beside the adapter, where one lies there, and else the one that adapter_config.json names.

    Raises SubjectError where the adapter is not whole, its base cannot be had, the two do not fit, or the adapter is of a kind
    that cannot be merged; and where the folder cannot be written.
    """
    config = _config(path)
    with TemporaryDirectory() as scratch:
        base = _base(path, config, Path(scratch), find_folder)
        files = (*(base.originals or base.weights), path / CONFIG, path / WEIGHTS)
        tokenizer = _tokenizer_files(path) or _tokenizer_files(base.path)
        marks = [file.read_bytes() for file in (base.path / "config.json", *tokenizer)]
        mark = fingerprint(sha256_of(files), *marks, version("peft"), version("transformers"), code_of([Path(__file__)]))
        try:
            folder = kept(f"adapted-{path.resolve().name[:40]}-{mark}", partial(_write, path, base, tokenizer))
        except OSError as error:
            raise SubjectError(
                f"{path} with its adapter merged cannot be written to the cache ({error}): make room there, or set "
                "XDG_CACHE_HOME to another folder"
            ) from error
    kind = str(config["peft_type"])
    whole = f"{source}: {'LoRA' if kind == 'LORA' else kind} adapter, merged into {base.name} ({base.source})"
    lasting = tuple((path / file.name) if file.is_relative_to(scratch) else file for file in files)
    return replace(inspect_folder(name, folder, whole), originals=lasting)


def _config(path: Path) -> dict[str, Any]:
    """adapter_config.json of an adapter that is whole."""
    if not (path / CONFIG).exists():
        there = next(name for name in ADAPTER_FILES if (path / name).exists())
        raise SubjectError(
            f"{path} holds an adapter's weights ({there}) without {CONFIG}: restore that file, or move the weights away to "
            "test the base alone"
        )
    if not (path / WEIGHTS).exists():
        if (path / PICKLE).exists():
            raise SubjectError(
                f"the adapter in {path} is kept as a pickle ({PICKLE}), which can run code: convert it where you trust it, "
                f"with `python -c \"import torch; from safetensors.torch import save_file; save_file(torch.load('{PICKLE}', "
                f"map_location='cpu', weights_only=True), '{WEIGHTS}')\"` in that folder"
            )
        raise SubjectError(f"{path} holds {CONFIG} without {WEIGHTS}: copy or download the adapter again")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SubjectError(f"{path / CONFIG} cannot be read as JSON ({error}): restore the file") from error
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise SubjectError(f"{path / CONFIG} names no peft_type: restore the file that `model.save_pretrained(...)` wrote")
    return config


def _base(path: Path, config: dict[str, Any], scratch: Path, find_folder: Callable[[str], ModelFolder]) -> ModelFolder:
    """The model that an adapter adapts.

    scratch: an empty folder, for links to a base that lies beside the adapter: with it there, transformers would apply it.
    """
    if (path / "config.json").exists() and ((path / SINGLE).exists() or (path / INDEX).exists()):
        for file in path.iterdir():
            if file.is_file() and file.name not in ADAPTER_FILES:
                (scratch / file.name).symlink_to(file.resolve())
        return inspect_folder("the model beside it", scratch, "the same folder")
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise SubjectError(
            f"{path / CONFIG} does not say which model the adapter is for (base_model_name_or_path): put the model's folder or "
            "its hub id there"
        )
    # Paths were written where the adapter was trained; one beside it may be meant, too.
    beside = next((place for place in (path / named, path.parent / named) if (place / "config.json").exists()), None)
    revision = config.get("revision")
    name = str(beside) if beside and not Path(named).expanduser().is_dir() else named
    name += f"@{revision}" if isinstance(revision, str) and revision not in ("", "main") and not Path(name).exists() else ""
    try:
        with _looking_for(path, named):
            return find_folder(name)
    except SubjectError as error:
        raise SubjectError(
            f"the base of the adapter in {path} cannot be had ({str(error).rpartition(': ')[0] or error}): give it as "
            f"base_model_name_or_path in {CONFIG}, a folder or a hub id"
        ) from error


@contextmanager
def _looking_for(path: Path, named: str) -> Iterator[None]:
    place = path.resolve()
    if place in _looking:
        raise SubjectError(f"the adapter is its own base ({named}): name another")
    _looking.add(place)
    try:
        yield
    finally:
        _looking.discard(place)


def _tokenizer_files(path: Path) -> list[Path]:
    """The files of a folder's tokenizer; none where it has none."""
    if not any((path / file).exists() for file in TOKENIZER_FILES):
        return []
    return sorted({file for pattern in OF_THE_TOKENIZER for file in path.glob(pattern) if file.is_file()})


def _write(path: Path, base: ModelFolder, tokenizer: list[Path], folder: Path) -> None:
    """Write the adapted model as a folder.

    Raises SubjectError as `inspect_adapter`, OSError where the disk is full.
    """
    refuse_without_room(path, base.n_parameters)
    with nothing_installed_or_downloaded(path.name):
        model = load_model(base.path, torch.float32)
        tokens = random_tokens(model.config.get_text_config(), embedded(model))
        adapted = _adapted(model, path)
        reference = Reference.of(cast("PreTrainedModel", adapted.get_base_model()), tokens)
        merged = _merged(adapted, path)
        again = Reference.of(merged, tokens)
    if not reference.agrees(again.log_probs):
        raise SubjectError(
            f"the adapter in {path} does other things merged into its base than beside it (log-probabilities are off by "
            f"{reference.off(again.log_probs):.2g} of their spread): test a model that was saved without adapters"
        )
    merged.save_pretrained(folder)
    for file in tokenizer:
        shutil.copyfile(file, folder / file.name)


def _adapted(model: "PreTrainedModel", path: Path) -> "PeftModel":
    """The base with the adapter in its layers, every tensor of the adapter in use."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    try:
        config = PeftConfig.from_pretrained(str(path))
    except Exception as error:  # peft raises many kinds here; the user can do one thing about all of them
        raise SubjectError(
            f"{path / CONFIG} describes no adapter that peft {version('peft')} knows ({first_line(error)}): merge it with the "
            "version that wrote it, and name that folder"
        ) from error
    if config.is_prompt_learning:
        raise SubjectError(
            f"the adapter in {path} puts vectors of its own before the prompt ({config.peft_type}), and these are no "
            "weights of the model: only adapters that can be merged into it are tested, such as LoRA"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is looked at below
            adapted = (
                PeftModel.from_pretrained(model, str(path), config=config, torch_device="cpu").eval().requires_grad_(False)
            )
            wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except Exception as error:  # as above
        raise SubjectError(
            f"the adapter in {path} does not fit its base ({first_line(error)}): name the model that it was trained on as "
            f"base_model_name_or_path in {CONFIG}"
        ) from error
    found = set(headers([path / WEIGHTS]))
    wrong = sorted((wanted - found) | (found - wanted - set(adapted.state_dict())))
    if wrong:
        raise SubjectError(
            f"the adapter in {path} does not fit its base ({some_of(wrong)} without a place, or missing): name the model that "
            f"it was trained on as base_model_name_or_path in {CONFIG}"
        )
    return adapted.eval().requires_grad_(False)


def _merged(adapted: "PeftModel", path: Path) -> "PreTrainedModel":
    try:
        merge: Any = adapted.base_model.merge_and_unload
        return merge(safe_merge=True).eval()
    except Exception as error:  # a kind that has no merging, or whose values are no numbers
        raise SubjectError(
            f"the adapter in {path} cannot be merged into its base ({first_line(error)}): only adapters that can be are "
            "tested, such as LoRA"
        ) from error
