"""What lies in a model's folder: which files transformers loads, what they hold, and what makes them no plain checkpoint.

Only names, shapes and dtypes are read, from the headers of safetensors files: no weight, and nothing that could run code.
"""

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from circuit_claims.models.subject_error import SubjectError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
#: Dtypes of weights that are numbers as they are; any other holds codes that need a scale or a table.
PLAIN_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
#: Buffers that old versions of transformers saved among the weights, and that no version reads: causal masks, the frequencies
#: of rotary positions, and the numbers of positions.
BUFFERS = re.compile(r"(\.(attn|attention)\.(bias|masked_bias)|rotary_emb\.inv_freq|(^|\.)position_ids)$")
#: Layers that predict further tokens: they stand after the model, and none of its logits depends on them.
FURTHER_TOKENS = re.compile(r"(^|\.)mtp(\.|$)")


class Tensor(NamedTuple):
    """What a header says of one tensor. dtype: in safetensors' words, such as F32."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of its entries."""
        return math.prod(self.shape)


def has_adapter(path: Path) -> bool:
    """Whether files of an adapter lie in a folder."""
    return any((path / name).exists() for name in ADAPTER_FILES)


def refuse_remote_code(path: Path, config: Mapping[str, Any]) -> None:
    """Raise SubjectError where config.json wants the model to be made by code that comes with its weights.

    Where transformers has a class of that name, that one is taken.
    """
    wanted = config.get("auto_map")
    if not isinstance(wanted, Mapping):
        return
    import transformers

    for kind in ("AutoModelForCausalLM", "AutoConfig"):
        place = wanted.get(kind)
        if isinstance(place, str) and not hasattr(transformers, place.rpartition(".")[2]):
            raise SubjectError(
                f"config.json in {path} asks for code that comes with the weights (auto_map: {place}), and no such code is "
                "run: name a model of an architecture that transformers has"
            )


def refuse_quantised(path: Path, config: Mapping[str, Any]) -> None:
    """Raise SubjectError where config.json says that the weights are codes of a quantisation."""
    for part in (config, config.get("text_config")):
        said = part.get("quantization_config") or part.get("compression_config") if isinstance(part, Mapping) else None
        if said:
            raise SubjectError(
                f"the weights in {path} are quantised ({_method(said)}), and their codes are not what is computed with: "
                "load the model with that method's library, call `model.dequantize()`, and name a folder that "
                "`model.save_pretrained(...)` has written"
            )


def _method(said: Any) -> str:
    if not isinstance(said, Mapping):
        return "quantization_config in config.json"
    bits = next((f"{bits} bits" for bits in (4, 8) if said.get(f"load_in_{bits}bit")), "")
    if not bits and isinstance(said.get("bits"), int):
        bits = f"{said['bits']} bits"
    name = str(said.get("quant_method") or ("bitsandbytes" if bits else "quantization_config in config.json"))
    return f"{name}, {bits}" if bits else name


def weight_files(path: Path, config: Mapping[str, Any]) -> tuple[Path, ...]:
    """The files that transformers loads from this folder, in the order of their names; any others that lie there are not read.

    Raises SubjectError where there are none, or where the index names one that is not there.
    """
    # As `PreTrainedModel.from_pretrained` looks for them: a name in config.json, one file, an index of several.
    chosen = config.get("transformers_weights") or (SINGLE if (path / SINGLE).exists() else INDEX)
    if not isinstance(chosen, str) or Path(chosen).name != chosen:
        raise SubjectError(f"config.json in {path} names weights outside its folder ({chosen!r}): name a file in it")
    if not (path / chosen).exists():
        raise SubjectError(f"{path} {_instead(path)}: save them as safetensors with {_how_to_save(path)}")
    if not chosen.endswith(".index.json"):
        return (path / chosen,)
    try:
        names = set(json.loads((path / chosen).read_text(encoding="utf-8"))["weight_map"].values())
        good = bool(names) and all(isinstance(name, str) and Path(name).name == name for name in names)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise SubjectError(f"{path / chosen} names no files of this folder (weight_map): restore the file")
    missing = sorted(name for name in names if not (path / name).exists())
    if missing:
        raise SubjectError(
            f"{path} lacks {len(missing)} of the {len(names)} files of its weights ({', '.join(missing[:3])}): "
            "download or copy them, too"
        )
    return tuple(path / name for name in sorted(names))


def _instead(path: Path) -> str:
    if others := sorted(file.name for file in path.glob("*.safetensors")):
        return f"has neither {SINGLE} nor {INDEX}, and transformers reads no other file ({others[0]})"
    pickled = any(path.glob("*.bin")) or any(path.glob("*.pt"))
    return "has its weights only as pickles, which can run code" if pickled else "has no weights"


def _how_to_save(path: Path) -> str:
    if not (path / PICKLE).exists() and not (path / f"{PICKLE}.index.json").exists():
        return "`model.save_pretrained(folder)`"
    # transformers reads a pickle as tensors alone (torch.load's weights_only), and writes the others beside it.
    code = f"from transformers import AutoModelForCausalLM as M; f = {str(path)!r}; M.from_pretrained(f).save_pretrained(f)"
    return f"`python -c {shlex.quote(code)}`, where you trust them"


def headers(files: Iterable[Path]) -> dict[str, Tensor]:
    """Every tensor of these files by its name.

    Raises SubjectError where a file is not whole.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - it is no mapping
                    part = tensors.get_slice(key)
                    found[key] = Tensor(str(part.get_dtype()), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise SubjectError(f"{file} is not a whole safetensors file ({error}): copy or download it again") from error
    return found


def refuse_codes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise SubjectError where a weight is kept in a dtype whose entries are no numbers of a model (8 bits, integers)."""
    codes = sorted(key for key, tensor in tensors.items() if tensor.dtype not in PLAIN_DTYPES and not BUFFERS.search(key))
    if codes:
        raise SubjectError(
            f"{some_of(codes)} in {path} {'are' if len(codes) > 1 else 'is'} kept as {tensors[codes[0]].dtype}, which is not "
            "a weight as the model computes with it: name a folder in which it is saved in floating point"
        )


def refuse_unused(path: Path, unexpected: Iterable[str]) -> None:
    """Raise SubjectError where the checkpoint holds tensors that the model does not use, but for known buffers."""
    unused = sorted(key for key in unexpected if not BUFFERS.search(key) and not FURTHER_TOKENS.search(key))
    if unused:
        raise SubjectError(
            f"the model that config.json in {path} makes does not use {some_of(unused)} of its weights: "
            "restore the two from one model"
        )


def some_of(keys: list[str]) -> str:
    """Up to three names, and how many more there are."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
