"""A subject's tokenizer, and the first names that it can carry.

tokenizer.json says how a text is read, and a class that tokenizer_config.json (or the model's type) names may build another
tokenizer from the same vocabulary: GPT-2's class leaves out that digits are split. So the two are compared on loading.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from circuit_claims.models.folder import ModelFolder
from circuit_claims.models.hub import TOKENIZER_FILES
from circuit_claims.models.subject_error import SubjectError, first_line
from circuit_claims.prompts.batch import TokenizationError, name_token
from circuit_claims.prompts.templates import EXTRA_SENTENCES, NEUTRAL_PREFIXES, ORDERS, TEMPLATES, frame_text
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES

#: Prompts are drawn from pairs of names, half of which verdicts are given on: of fewer, too few prompts are different.
FEWEST_NAMES = 20
FILE = "tokenizer.json"


def load_tokenizer(folder: ModelFolder) -> Any:
    """The folder's fast tokenizer, which reads texts as the folder's tokenizer.json does, where there is one.

    Raises SubjectError where there is none, or only a slow one, where it reads texts otherwise, or has more tokens than
    config.json's vocabulary.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers raises many kinds here; the user can do one thing about all of them
        raise SubjectError(
            f"the tokenizer in {folder.path} cannot be loaded ({first_line(error)}): save it beside the model"
        ) from error
    if not any((folder.path / file).exists() for file in TOKENIZER_FILES):
        raise SubjectError(f"the tokenizer in {folder.path} is missing: save it beside the model")
    if not tokenizer.is_fast:
        raise SubjectError(
            f"{folder.name} has only a slow tokenizer, and roles are found by its offsets: save a tokenizer.json"
        )
    if (folder.path / FILE).exists():
        tokenizer = _as_in_the_file(tokenizer, folder.path)
    _ids_fit(tokenizer, folder)
    return tokenizer


def begins_with_bos(tokenizer: Any, folder: ModelFolder) -> bool:
    """Whether the tokenizer itself puts BOS before a text that it is to read with special tokens.

    It does where tokenizer.json's template says so, or else where the flag `add_bos_token` of tokenizer_config.json is set,
    which not every class of transformers heeds. A first token that is another than BOS is not asked of prompts.
    """
    if tokenizer.bos_token_id is None:
        return False
    if list(tokenizer("When", add_special_tokens=True)["input_ids"])[:1] == [tokenizer.bos_token_id]:
        return True
    try:
        config = json.loads((folder.path / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it need not be there; what is wrong with it, loading has told
        return False
    return isinstance(config, dict) and config.get("add_bos_token") is True


def _as_in_the_file(tokenizer: Any, path: Path) -> Any:
    """The tokenizer where it reads texts as tokenizer.json does, else one that is made from that file alone."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_file(str(path / FILE))
    backend.no_padding()  # what was saved of padding and truncation is no part of how a text is read
    backend.no_truncation()
    wanted = [list(read.ids) for read in backend.encode_batch(list(_texts()), add_special_tokens=False)]
    if _read_otherwise(tokenizer, wanted) is None:
        return tokenizer
    # A class brings special tokens that the file may not have: those would be added behind the vocabulary.
    special = {role: token for role, token in tokenizer.special_tokens_map.items() if backend.token_to_id(token) is not None}
    plain = PreTrainedTokenizerFast(
        tokenizer_file=str(path / FILE),
        name_or_path=str(path),  # TransformerLens asks for it
        model_max_length=tokenizer.model_max_length,
        **special,
    )
    text = _read_otherwise(plain, wanted)
    if text is not None:
        raise SubjectError(
            f"the tokenizer in {path} reads {text!r} in two ways, by tokenizer.json and as transformers loads it "
            f"({type(tokenizer).__name__}): save it anew from the class that the model was trained with"
        )
    return plain


def _read_otherwise(tokenizer: Any, wanted: list[list[int]]) -> str | None:
    """The first of the texts that a tokenizer does not read as these ids; None where it reads all as these."""
    texts = list(_texts())
    found = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return next((text for text, ids, right in zip(texts, found, wanted, strict=True) if list(ids) != right), None)


@lru_cache(maxsize=1)
def _texts() -> tuple[str, ...]:
    """Texts like those that the suite asks about, and what tokenizers are known to differ in."""
    return tuple(dict.fromkeys(_drawn_texts()))


def _drawn_texts() -> Iterator[str]:
    for word in (*NAMES, *PLACES, *OBJECTS):
        yield from (word, f" {word}", f"  {word}", word.lower(), word.upper())
    for number, template in enumerate(TEMPLATES):
        for order in ORDERS:
            form = frame_text(
                number,
                order,
                prefix=NEUTRAL_PREFIXES[number % len(NEUTRAL_PREFIXES)],
                extra=EXTRA_SENTENCES[number % len(EXTRA_SENTENCES)] if "{EXTRA}" in template else "",
            )
            a, b = NAMES[2 * number], NAMES[2 * number + 1]
            place, thing = PLACES[number % len(PLACES)], OBJECTS[number % len(OBJECTS)]
            for slot, filler in {"{S1}": a, "{S2}": a, "{X}": a, "{IO}": b, "{PLACE}": place, "{OBJECT}": thing}.items():
                form = form.replace(slot, filler)
            yield form
    for year in range(1000, 2000, 37):
        yield from (f" {year}", f"The war lasted from the year {year} to the year {year // 100}")
    yield from (f"{digits:02d}" for digits in range(0, 100, 7))
    yield from ("", " ", "  ", "\n", "\n\nMary", "Mary\n", "\tMary", "a  b", "Mary  and   John", "\u00a0Mary", "(ABC)")
    yield from (" 0 1 12 123 1234 12345", "don't I'll we've", "e.g. U.S. 3.14", "naïve café", "nai\u0308ve", "ﬁne ½", "東京")


def _ids_fit(tokenizer: Any, folder: ModelFolder) -> None:
    """Tokens may be fewer than ids, where a vocabulary has holes: then its number says nothing of the largest id."""
    known = folder.config.get("vocab_size", (folder.config.get("text_config") or {}).get("vocab_size"))
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if isinstance(known, int) and largest >= known:
        raise SubjectError(
            f"the tokenizer in {folder.path} has {len(tokenizer)} tokens, {token!r} with the id {largest}, "
            f"and config.json has a vocabulary of {known}: restore the two from one model"
        )


@dataclass(frozen=True)
class NamesInUse:
    """The names that prompts are filled with, and those that the tokenizer cannot carry, with why where it is not plain."""

    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """One line about those that were left out; empty where none was."""
        if not self.left_out:
            return ""
        among = len(self.names) + len(self.left_out)
        return f"names: {len(self.names)} of {among} are one token for this tokenizer; left out: {_some(self.left_out)}"


def names_for(tokenizer: Any, names_file: str | None) -> NamesInUse:
    """The names that prompts are filled with: the published ones, or those of a file, each once.

    Names that the tokenizer cannot carry are left out: those that are not one token, and those that are another's.

    Raises SubjectError where the file cannot be read, or where too few are left.
    """
    names = NAMES if names_file is None else _names_in(names_file)
    good: dict[int, str] = {}
    left_out = []
    for name in names:
        try:
            token = name_token(tokenizer, name)
        except TokenizationError:
            left_out.append(name)
            continue
        if good.setdefault(token, name) != name:
            left_out.append(f"{name} (the same token as {good[token]})")
    if len(good) < FEWEST_NAMES:
        without = f" (left out: {_some(left_out)})" if left_out else ""
        raise SubjectError(
            f"only {len(good)} different names are one token for this tokenizer{without}: "
            f"give at least {FEWEST_NAMES} with --names FILE"
        )
    return NamesInUse(tuple(good.values()), tuple(left_out))


def _names_in(file: str) -> tuple[str, ...]:
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()  # -sig: editors put a mark before UTF-8
    except (OSError, RuntimeError, ValueError) as error:
        raise SubjectError(f"the names in {file} cannot be read ({error}): give a text file, one name a line") from error
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise SubjectError(f"there are no names in {file}: give a text file, one name a line")
    return names


def _some(words: Sequence[str]) -> str:
    return f"{', '.join(words[:5])}{', ...' if len(words) > 5 else ''}"
