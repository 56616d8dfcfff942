"""What a GGUF file says of itself, and whether all of it can be read: before anything of its weights is.

GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) is the form in which llama.cpp keeps a model: configuration,
tokenizer and weights in one file, the weights most often in blocks of a few bits each.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_claims.models.checkpoint import some_of
from circuit_claims.models.subject_error import SubjectError, first_line

if TYPE_CHECKING:  # slow to import
    from gguf import GGUFReader

MAGIC = b"GGUF"
#: Of the format; the first was given up in 2023.
VERSIONS = (2, 3)
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
AGAIN = "copy or download it again"


class Header:
    """The fields and the table of tensors of a GGUF file that is whole."""

    def __init__(self, file: Path, reader: "GGUFReader") -> None:
        self.file, self.tensors = file, reader.tensors
        self._fields = reader.fields

    def get(self, key: str, default: Any = None) -> Any:
        """A field's value: a number, a truth value, a string, or a list."""
        field = self._fields.get(key)
        return default if field is None else field.contents()

    @property
    def architecture(self) -> str:
        """In llama.cpp's words: llama, qwen2, phi3."""
        return str(self.get("general.architecture", ""))

    @property
    def kept_as(self) -> str:
        """How most of the weights are kept: F16, Q8_0, Q4_K."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.tensor_type.name] += int(tensor.n_elements)
        return sizes.most_common(1)[0][0]

    @property
    def n_parameters(self) -> int:
        """The number of weights."""
        return sum(int(tensor.n_elements) for tensor in self.tensors)


def read_header(file: Path) -> Header:
    """The header of a GGUF file that holds a whole model.

    Raises SubjectError where it is another kind of file, where a part of it is missing, or where its weights are kept in a way
    that cannot be undone.
    """
    from gguf import GGUFReader

    _refuse_other_files(file)
    try:
        reader = GGUFReader(file)
    except ValueError as error:
        if "GGMLQuantizationType" in str(error):
            raise SubjectError(
                f"{file} keeps weights in a form that the package gguf does not know ({first_line(error)}): "
                "take a file of another quantisation, such as Q8_0 or Q4_K_M"
            ) from error
        raise SubjectError(f"{file} is not a whole GGUF file ({first_line(error)}): {AGAIN}") from error
    except (IndexError, KeyError, OverflowError, TypeError, OSError) as error:
        raise SubjectError(f"{file} is not a whole GGUF file ({first_line(error)}): {AGAIN}") from error
    header = Header(file, reader)
    _refuse_other_contents(header)
    _refuse_forms(header)
    return header


def _refuse_other_files(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
    except OSError as error:
        raise SubjectError(f"{file} cannot be read ({error.strerror or error}): check the path and its permissions") from error
    if start[:4] != MAGIC:
        raise SubjectError(
            f"{file} is no GGUF file (it does not begin with the letters GGUF): name a GGUF file, or a folder that holds "
            "config.json and the weights"
        )
    version = int.from_bytes(start[4:], "little")
    if len(start) == 8 and version not in VERSIONS:
        raise SubjectError(
            f"{file} is of version {version} of GGUF, and versions {' and '.join(map(str, VERSIONS))} are read: "
            "convert the model anew with llama.cpp"
        )


def _refuse_other_contents(header: Header) -> None:
    parts = header.get("split.count", 1)
    part = PART.search(header.file.name)
    if (isinstance(parts, int) and parts > 1) or part:
        number = parts if isinstance(parts, int) and parts > 1 else int(part[2]) if part else 1
        raise SubjectError(
            f"{header.file} is one of {number} parts of a split GGUF: join them with llama.cpp, "
            "`llama-gguf-split --merge FIRST-PART WHOLE.gguf`, and name the whole file"
        )
    kind = header.get("general.type", "model")
    if kind != "model" or not header.architecture or not header.tensors:
        what = f"a GGUF of the type {kind!r}" if kind != "model" else "a GGUF without a model's weights"
        raise SubjectError(f"{header.file} is {what}: name the GGUF file of a whole language model")


def _refuse_forms(header: Header) -> None:
    """Raise SubjectError where the package gguf can tell how weights are kept, and cannot turn them into numbers."""
    from gguf import dequantize

    examples = {tensor.tensor_type: tensor for tensor in header.tensors}
    for form, tensor in examples.items():
        try:
            dequantize(tensor.data.reshape(-1, tensor.data.shape[-1])[:1], form)
        except Exception as error:  # NotImplementedError, and whatever else a form of codes may raise
            raise SubjectError(
                f"{tensor.name} in {header.file} is kept as {form.name}, which cannot be turned back into numbers "
                f"({first_line(error)}): take a file of another quantisation, such as Q8_0 or Q4_K_M"
            ) from error


def refuse_unused(header: Header, used: Sequence[str]) -> None:
    """Raise SubjectError where the file holds tensors that the loaded model does not use."""
    known = set(used)
    unused = sorted(tensor.name for tensor in header.tensors if tensor.name not in known)
    if unused:
        raise SubjectError(
            f"transformers' {header.architecture} does not use {some_of(unused)} of the weights in {header.file}: "
            "name the folder that the file was converted from"
        )
