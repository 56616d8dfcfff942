"""Where pairs come from: Python, a file, a folder or a data set of the hub that was named."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from circuit_claims.prompts.contrasts.errors import PairsError
from circuit_claims.prompts.contrasts.table import PairTable, table_of

#: What names a data set of the hub: `hf:owner/name`, with a configuration `hf:owner/name:configuration`.
HUB = "hf:"
#: The marks that UTF-16 and UTF-8 texts may begin with, and how these are read.
BEGINNINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
#: What may stand between the columns of a table; spreadsheets write ";" where "," stands in numbers.
SEPARATORS = (",", ";", "\t")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

#: A path, `hf:owner/name`, rows as dicts, columns as a dict of lists, a frame, or a data set of Hugging Face.
Source = str | Path | Iterable[Mapping[str, Any]] | Mapping[str, Any] | Any


def read_pairs(
    source: Source, *, folder: Path | None = None, split: str = "train", encoding: str | None = None, marks: bool = True
) -> PairTable:
    """The pairs of a source, checked.

    source: a file (.csv, .tsv, .jsonl, .parquet), a folder that a data set was saved to, `hf:owner/name` for a data set of the
    hub, a list of dicts, a dict of columns, a pandas frame or a `datasets.Dataset`. folder: what a relative path is relative
    to. split: of a data set. encoding: of a text file; UTF-8 and UTF-16 with its mark are known without. marks: whether
    brackets in the texts mark positions.

    Raises PairsError, with one sentence, where there is no such file, or it cannot be read, or a pair in it cannot be used.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return table_of(_of_the_hub(source, split), source, marks=marks)
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        path = path if path.is_absolute() or folder is None else folder / path
        if path.is_dir():
            return table_of(_of_a_folder(path, split), path.name, marks=marks)
        return _of_a_file(path, encoding, marks)
    return table_of(_of_python(source), "the list of pairs", marks=marks)


def _of_a_file(path: Path, encoding: str | None, marks: bool) -> PairTable:
    if path.suffix.lower() not in SUFFIXES:
        raise PairsError(f"{path} is no file of pairs: give one that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PairsError(f"{path} cannot be read ({error.strerror}): give the path of a file of pairs") from error
    if not content.strip():
        raise PairsError(f"{path.name} is empty: give one pair a row, with clean, corrupted, answer and foil")
    if path.suffix.lower() == ".parquet":
        return table_of(_parquet(path, content), path.name, marks=marks)
    text = _decoded(path, content, encoding)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return table_of(_json_lines(path, text), path.name, marks=marks)
    # A line of headings stands above: the first pair is in row 2, as a spreadsheet counts.
    return table_of(_csv(path, text), path.name, marks=marks, first_row=2)


def _decoded(path: Path, content: bytes, encoding: str | None) -> str:
    wanted = encoding or next((name for mark, name in BEGINNINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(wanted)
    except LookupError as error:
        raise PairsError(f"{encoding!r} is no encoding that Python knows: give utf-8, latin-1, utf-16 or the like") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"is not {wanted.upper()} (byte 0x{content[error.start]:02x} in line {line})"
        raise PairsError(f'{path.name} {what}: save it as UTF-8, or say which it is, as encoding="latin-1"') from error
    if "\0" in text:
        raise PairsError(f'{path.name} has NUL characters: save it as UTF-8, or say which it is, as encoding="utf-16-le"')
    return text.removeprefix("\ufeff")


def _csv(path: Path, text: str) -> Any:
    import pandas

    heading = text.lstrip().splitlines()[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else max(SEPARATORS, key=heading.count)
    try:
        # "NA", "None" and "null" are answers like any other.
        return pandas.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        said = " ".join(str(error).split())
        raise PairsError(f"{path.name} cannot be read as a table ({said}): put texts with a comma between quotes") from error


def _json_lines(path: Path, text: str) -> Any:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PairsError(f"line {number} of {path.name} is no JSON ({error}): mend it, or leave it out") from error
        if not isinstance(row, dict):
            raise PairsError(f'line {number} of {path.name} is no JSON object: give {{"clean": ..., "corrupted": ..., ...}}')
        rows.append(row)
    return _of_python(rows)


def _parquet(path: Path, content: bytes) -> Any:
    import pandas
    import pyarrow

    try:
        return pandas.read_parquet(io.BytesIO(content))
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        said = " ".join(str(error).split())
        raise PairsError(f"{path.name} cannot be read as Parquet ({said}): write it with DataFrame.to_parquet") from error


def _of_python(source: Any) -> Any:
    import pandas

    if isinstance(source, pandas.DataFrame):
        return source
    if hasattr(source, "to_pandas"):  # a data set of Hugging Face
        return source.to_pandas()
    try:
        # Lists stay lists, and numbers of tokens whole numbers: no type is inferred.
        return pandas.DataFrame(source if isinstance(source, Mapping) else list(source), dtype=object)
    except (TypeError, ValueError) as error:
        raise PairsError(f"these are no pairs ({error}): give dicts with clean, corrupted, answer and foil") from error


def _of_a_folder(path: Path, split: str) -> Any:
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise PairsError(f"{path} holds no data set ({said}): save one there with save_to_disk, or name a file") from error
    if isinstance(found, DatasetDict):
        if split not in found:
            raise PairsError(f"the data set in {path} has no split {split!r}: give one of {', '.join(map(str, found))}")
        found = found[split]
    return found.to_pandas()


def _of_the_hub(source: str, split: str) -> Any:
    from datasets import load_dataset

    name, _, configuration = source.removeprefix(HUB).partition(":")
    try:
        return load_dataset(name, configuration or None, split=split).to_pandas()
    except Exception as error:  # datasets and the hub raise many kinds here; the user can do one thing about all of them
        said = " ".join(str(error).split())[:200]
        raise PairsError(
            f"the data set {name} (split {split!r}) cannot be had ({said}): check its name, or give a file"
        ) from error
