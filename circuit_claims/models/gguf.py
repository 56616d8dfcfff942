"""GGUF files as subjects: turned once into a folder in Hugging Face's layout, in the user's cache, and used from there.

Everything else that looks at a model then looks at an ordinary folder. The folder goes by the checksum of the file, and the
checksum of the file is the one that rows bear.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from circuit_claims.models.checkpoint import some_of
from circuit_claims.models.disk_cache import code_of, fingerprint, kept
from circuit_claims.models.folder import ModelFolder, inspect_folder, sha256_of
from circuit_claims.models.gguf_header import MAGIC, Header, read_header, refuse_unused
from circuit_claims.models.gguf_tokenizer import save_tokenizer
from circuit_claims.models.loading_guard import nothing_installed_or_downloaded
from circuit_claims.models.room import refuse_without_room
from circuit_claims.models.rope_in_gguf import ROPE_TENSORS, scale_positions
from circuit_claims.models.subject_error import SubjectError, first_line

if TYPE_CHECKING:  # slow to import
    import torch

SUFFIX = ".gguf"
#: The code that writes the folders: when it changes, they are written anew.
WRITTEN_BY = ("gguf.py", "gguf_tokenizer.py", "rope_in_gguf.py")
#: What the folder says of the file that it was made from.
ORIGIN = "made_from_gguf.json"
#: Fields of a GGUF and of a configuration that transformers reads of some architectures alone.
FIELDS = {
    "context_length": "max_position_embeddings",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "expert_feed_forward_length": "moe_intermediate_size",
}
SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding"}
#: Forms that hold a weight as one number each.
PLAIN_FORMS = frozenset({"F32", "F16", "BF16"})


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, by its name or by how it begins: ollama's have no ending."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        return path.suffix.lower() == SUFFIX or file.read(len(MAGIC)) == MAGIC
    return path.suffix.lower() == SUFFIX


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds one, and no model in Hugging Face's layout; None where it holds none.

    Raises SubjectError where it holds several.
    """
    files = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
    if not files or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        raise SubjectError(
            f"{folder} holds {len(files)} GGUF files ({some_of([file.name for file in files])}): name one of them"
        )
    return files[0]


def inspect_gguf(name: str, file: Path, source: str) -> ModelFolder:
    """The folder of the model in a GGUF file, made where the cache does not hold it, its files looked at.

    name: how the user calls the model; source: where the file came from, to which is added how it keeps its weights.

    Raises SubjectError where the file is no whole GGUF of a causal language model that transformers knows, where its weights
    are kept in a way that cannot be undone, or where the folder cannot be written.
    """
    try:
        code = code_of(Path(__file__).parent / name for name in WRITTEN_BY)
        mark = fingerprint(sha256_of((file,)), version("transformers"), version("gguf"), code)
    except OSError as error:
        raise SubjectError(f"{file} cannot be read ({error.strerror or error}): check the path and its permissions") from error
    try:
        folder = kept(f"gguf-{mark}", partial(_write, file))
    except OSError as error:
        raise SubjectError(
            f"the weights of {file} cannot be written to the cache ({error}): make room there, or set XDG_CACHE_HOME to "
            "another folder"
        ) from error
    origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    return replace(inspect_folder(name, folder, f"{source}, {origin['kept_as']}"), originals=(file,))


def _write(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder.

    Raises SubjectError as `inspect_gguf`, OSError where the disk is full.
    """
    header = read_header(file)
    refuse_without_room(file, header.n_parameters)
    # It takes a while, and gigabytes where models are large: whoever waits hears of both.
    size = 4 * header.n_parameters / 1e9
    print(f"de-quantising {file.name} once: up to {size:.1f} GB in {folder.parent}", file=sys.stderr, flush=True)
    with nothing_installed_or_downloaded(file.name), _quietly():
        config, state = _loaded(header)
        save_tokenizer(header, folder)
        _save(config, state, folder, plain={tensor.tensor_type.name for tensor in header.tensors} <= PLAIN_FORMS)
    (folder / ORIGIN).write_text(json.dumps({"file": file.name, "kept_as": header.kept_as}) + "\n", encoding="utf-8")


def _loaded(header: Header) -> tuple[Any, dict[str, "torch.Tensor"]]:
    """The configuration, and the weights in float32 by their names in transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    place = {"gguf_file": header.file.name, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(header.file.parent, **place)
        known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    except Exception as error:  # transformers raises many kinds here; the user can do one thing about all of them
        raise SubjectError(
            f"transformers reads no GGUF of the architecture {header.architecture!r} ({first_line(error)}), as which "
            f"{header.file} is written: name the folder that it was converted from"
        ) from error
    if not known:
        raise SubjectError(
            f"{header.file} holds no causal language model, but one of the architecture {header.architecture!r}: name a "
            "decoder, such as Llama's or GPT-2's"
        )
    _as_the_file_says(config, header)
    scale_positions(config, header)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            header.file.parent,
            **place,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    except Exception as error:  # as above
        raise SubjectError(
            f"transformers cannot load the weights of {header.file} ({first_line(error)}): try the file with llama.cpp, or "
            "name the folder that it was converted from"
        ) from error
    model, report = loaded
    wrong = sorted(report["missing_keys"]) + sorted(str(key[0]) for key in report["mismatched_keys"])
    if wrong:
        raise SubjectError(
            f"{header.file} does not hold the weights that its header describes ({some_of(wrong)} missing or of another "
            "shape): convert the model anew, or name the folder that it was converted from"
        )
    refuse_unused(header, _used(header, model, report))
    return model.config, model.state_dict()


def _as_the_file_says(config: Any, header: Header) -> None:
    """Take over what transformers does not read of some architectures, and fills in with what is usual there."""
    for key, name in FIELDS.items():
        value = header.get(f"{header.architecture}.{key}")
        if isinstance(value, int) and hasattr(config, name):
            setattr(config, name, value)
    for role, key in SPECIAL.items():
        setattr(config, f"{role}_token_id", header.get(f"tokenizer.ggml.{key}_token_id"))


def _used(header: Header, model: Any, report: Any) -> list[str]:
    """The tensors of the file that a loaded model took something from."""
    from transformers.integrations.gguf.utils import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    names = [tensor.name for tensor in header.tensors]
    if is_gguf_arch_supported(header.architecture):
        return [name for name in names if name not in report["unexpected_keys"]]
    # For other architectures the loader passes over what it has no name for, and reports nothing.
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=model.config.to_dict())
    known = get_gguf_hf_weights_map(model, processor)
    # Heads are not passed over in any case, and what scales rotary positions has been read by `scale_positions`.
    known = {*known, "output.weight", *ROPE_TENSORS}
    return [name for name in names if name in known or name.removesuffix(".weight") in known]  # without: experts


def _save(config: Any, state: "dict[str, torch.Tensor]", folder: Path, *, plain: bool) -> None:
    """config.json and model.safetensors, in the smallest dtype that holds every weight exactly.

    plain: whether the file keeps numbers; what comes of codes is exact in float32 alone.
    """
    import torch
    from transformers import AutoModelForCausalLM

    halves = (torch.bfloat16, torch.float16) if plain else ()
    dtype = next((half for half in halves if all(_exact(weight, half) for weight in state.values())), torch.float32)
    # A model that was loaded from GGUF refuses to be saved.
    config.__dict__.pop("quantization_config", None)
    config.dtype = dtype
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict({name: weight.to(dtype) for name, weight in state.items()}, assign=True)
    model.tie_weights()
    model.save_pretrained(folder)


def _exact(weight: "torch.Tensor", dtype: "torch.dtype") -> bool:
    import torch

    return torch.equal(weight.to(dtype).to(weight.dtype), weight)


@contextmanager
def _quietly() -> Iterator[None]:
    """The loader's progress where somebody watches it, and none of its advice."""
    from tqdm import tqdm
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with mock.patch.object(modeling_gguf_pytorch_utils, "tqdm", partial(tqdm, disable=None)):
            yield
    finally:
        logging.set_verbosity(before)
