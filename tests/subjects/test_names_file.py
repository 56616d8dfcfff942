"""The names that a user gives: what is read of the file, and what is said of names that a tokenizer cannot carry."""

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from circuit_claims.models.folder import EMBEDDED
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.tokenizer import names_for

GOOD = ("Mary", "John", "Sarah", "David", "James", "Robert", "Joseph", "Andrew")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """The embedded model's."""
    return PreTrainedTokenizerFast(tokenizer_file=str(EMBEDDED["mini"] / "tokenizer.json"), unk_token="<unk>")


def refusal(tokenizer, path, *, drop_names=False) -> str:
    with pytest.raises(SubjectError) as caught:
        names_for(tokenizer, str(path), drop_names=drop_names)
    message = str(caught.value)
    assert "\n" not in message and ": " in message
    return message


@pytest.mark.parametrize(
    "written",
    [
        b"\xef\xbb\xbf" + "\n".join(GOOD).encode(),
        "\r\n".join(GOOD).encode() + b"\r\n",
        "\r".join(GOOD).encode(),
        "\n\n".join(f"  {name}\t " for name in GOOD).encode() + b"\n\n",
        "\n".join([*GOOD, *GOOD]).encode(),
    ],
    ids=["a mark before UTF-8", "CRLF", "CR", "blanks", "duplicates"],
)
def test_the_same_names_however_they_are_written(tokenizer, tmp_path, written):
    (tmp_path / "names.txt").write_bytes(written)
    assert names_for(tokenizer, str(tmp_path / "names.txt"), drop_names=False) == GOOD


def test_without_a_file_names_are_the_published_ones(tokenizer):
    assert names_for(tokenizer, None, drop_names=False) == NAMES


def test_names_said_twice_count_once_and_the_sentence_says_so(tokenizer, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(GOOD[:4] * 5))
    assert "only 4 different names are one token" in refusal(tokenizer, tmp_path / "names.txt")


@pytest.mark.parametrize("name", ["Mary Ann", "Mary-Ann", "Zebedee", "Маша", "Mary\u200b"])
def test_a_name_of_several_words_or_unknown_is_named(tokenizer, tmp_path, name):
    (tmp_path / "names.txt").write_text("\n".join([*GOOD, name]), encoding="utf-8")
    said = refusal(tokenizer, tmp_path / "names.txt")
    assert "1 of 9 names are not one token" in said and name in said and "--drop-names" in said
    assert names_for(tokenizer, str(tmp_path / "names.txt"), drop_names=True) == GOOD


def test_names_that_are_one_token_together_are_not_two(tmp_path):
    backend = Tokenizer.from_file(str(EMBEDDED["mini"] / "tokenizer.json"))
    backend.normalizer = normalizers.Replace("JOHN", "John")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    (tmp_path / "names.txt").write_text("\n".join([*GOOD, "JOHN"]))
    said = refusal(tokenizer, tmp_path / "names.txt")
    assert "1 of 9 names are the same token as another" in said and "JOHN as John" in said
    assert names_for(tokenizer, str(tmp_path / "names.txt"), drop_names=True) == GOOD


@pytest.mark.parametrize("written", [b"", b"\n \r\n", b"\xef\xbb\xbf"], ids=["nothing", "blanks", "a mark alone"])
def test_a_file_without_names(tokenizer, tmp_path, written):
    (tmp_path / "names.txt").write_bytes(written)
    assert f"there are no names in {tmp_path / 'names.txt'}" in refusal(tokenizer, tmp_path / "names.txt", drop_names=True)


def test_what_cannot_be_read_is_one_sentence(tokenizer, tmp_path):
    (tmp_path / "binary").write_bytes(b"\x80\x81\x82")
    (tmp_path / "utf-16").write_text("\n".join(GOOD), encoding="utf-16")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "binary", tmp_path / "utf-16", "nul\0", "~nobody-there/names"):
        said = refusal(tokenizer, path)
        assert "cannot be read" in said and "one name a line" in said


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root reads every file; run as another user to see it")
def test_a_file_without_permission(tokenizer, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(GOOD))
    (tmp_path / "names.txt").chmod(0)
    assert "cannot be read" in refusal(tokenizer, tmp_path / "names.txt")


def names_file(folder: Path, *names: str) -> Path:
    """A file with one name a line."""
    path = folder / "names.txt"
    path.write_text("\n".join(names) + "\n")
    return path


@pytest.mark.parametrize("bad", ["Zebedee", "Mary-Ann"])
def test_a_name_that_is_not_one_token_is_refused_and_named(tokenizer, tmp_path, bad):
    message = refusal(tokenizer, names_file(tmp_path, *GOOD, bad))
    assert "1 of 9 names" in message and f"({bad})" in message
    assert "--drop-names" in message and "--names" in message


def test_drop_names_leaves_out_the_names_that_are_not_one_token_and_keeps_the_others(tokenizer, tmp_path):
    given = names_file(tmp_path, "Zebedee", *GOOD[:4], "", "Mary-Ann", *GOOD)
    assert names_for(tokenizer, str(given), drop_names=True) == GOOD


def test_fewer_than_eight_names_are_refused(tokenizer, tmp_path):
    message = refusal(tokenizer, names_file(tmp_path, "Zebedee", *GOOD[1:]), drop_names=True)
    assert "only 7 different names" in message and "at least 8" in message


def test_names_that_cannot_be_read_are_refused(tokenizer, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "nowhere.txt", tmp_path, tmp_path / "binary"):
        message = refusal(tokenizer, path)
        assert f"the names in {path} cannot be read" in message and "one name a line" in message
