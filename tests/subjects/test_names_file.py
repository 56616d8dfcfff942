"""The names that a user gives: what is read of the file, and what is said of names that a tokenizer cannot carry."""

import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from circuit_claims.models.folder import EMBEDDED
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.tokenizer import NamesInUse, names_for
from tests.support.claim_projects import claimed

#: As many as are needed.
GOOD = NAMES[:20]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """The embedded model's."""
    return PreTrainedTokenizerFast(tokenizer_file=str(EMBEDDED["mini"] / "tokenizer.json"), unk_token="<unk>")


def refusal(tokenizer, path) -> str:
    with pytest.raises(SubjectError) as caught:
        names_for(tokenizer, str(path))
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
    assert names_for(tokenizer, str(tmp_path / "names.txt")) == NamesInUse(GOOD)


def test_without_a_file_names_are_the_published_ones(tokenizer):
    assert names_for(tokenizer, None) == NamesInUse(NAMES) and not NamesInUse(NAMES).remark


def test_names_said_twice_count_once_and_the_sentence_says_so(tokenizer, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(GOOD[:4] * 5))
    assert "only 4 different names are one token" in refusal(tokenizer, tmp_path / "names.txt")


@pytest.mark.parametrize("name", ["Mary Ann", "Mary-Ann", "Zebedee", "Маша", "Mary\u200b"])
def test_a_name_of_several_words_or_unknown_is_left_out_and_named(tokenizer, tmp_path, name):
    (tmp_path / "names.txt").write_text("\n".join([*GOOD, name]), encoding="utf-8")
    found = names_for(tokenizer, str(tmp_path / "names.txt"))
    assert found == NamesInUse(GOOD, (name,))
    assert found.remark == f"names: 20 of 21 are one token for this tokenizer; left out: {name}"


def test_names_that_are_one_token_together_are_not_two(tmp_path):
    backend = Tokenizer.from_file(str(EMBEDDED["mini"] / "tokenizer.json"))
    backend.normalizer = normalizers.Replace("JOHN", "John")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    (tmp_path / "names.txt").write_text("\n".join([*GOOD, "JOHN"]))
    found = names_for(tokenizer, str(tmp_path / "names.txt"))
    assert found == NamesInUse(GOOD, ("JOHN (the same token as John)",))
    assert found.remark.endswith("are one token for this tokenizer; left out: JOHN (the same token as John)")


@pytest.mark.parametrize("written", [b"", b"\n \r\n", b"\xef\xbb\xbf"], ids=["nothing", "blanks", "a mark alone"])
def test_a_file_without_names(tokenizer, tmp_path, written):
    (tmp_path / "names.txt").write_bytes(written)
    assert f"there are no names in {tmp_path / 'names.txt'}" in refusal(tokenizer, tmp_path / "names.txt")


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


def test_names_that_are_not_one_token_are_left_out_and_the_others_keep_their_order(tokenizer, tmp_path):
    given = names_file(tmp_path, "Zebedee", *GOOD[:4], "", "Mary-Ann", *GOOD)
    assert names_for(tokenizer, str(given)) == NamesInUse(GOOD, ("Zebedee", "Mary-Ann"))


def test_of_many_that_are_left_out_five_are_named(tokenizer, tmp_path):
    bad = [f"Zebedee{number}" for number in range(6)]
    six = names_for(tokenizer, str(names_file(tmp_path, *bad, *GOOD))).remark
    assert six == f"names: 20 of 26 are one token for this tokenizer; left out: {', '.join(bad[:5])}, ..."
    five = names_for(tokenizer, str(names_file(tmp_path, *bad[:5], *GOOD))).remark
    assert five.endswith(f"left out: {', '.join(bad[:5])}")


def test_fewer_than_twenty_names_are_refused(tokenizer, tmp_path):
    message = refusal(tokenizer, names_file(tmp_path, "Zebedee", *GOOD[1:]))
    assert "only 19 different names" in message and "(left out: Zebedee)" in message
    assert "give at least 20 with --names FILE" in message


CLAIM = '''
def test_a(ioi, expect):
    """The mean logit difference is some number."""
    expect(ioi.logit_difference(), "made up").above(-1000)
'''


@pytest.mark.parametrize("options", [(), ("--drop-names",), ("-n", "1")], ids=["", "--drop-names", "a worker"])
def test_the_header_and_the_report_say_which_names_were_left_out(project, tmp_path, options):
    """With or without the option that was needed for it once."""
    given = names_file(tmp_path, *GOOD, "Zebedee", "Mary-Ann")
    result, (row,) = claimed(project, CLAIM, f"--names={given}", "--prompts=30", *options)
    said = "names: 20 of 22 are one token for this tokenizer; left out: Zebedee, Mary-Ann"
    assert row["verdict"] == "holds" and result.outlines.count(said) == 1, result.outlines
    meta = json.loads((project.path / "report" / "claims.json").read_text(encoding="utf-8"))["meta"]
    assert meta["names_in_use"] == said.removeprefix("names: ")
    (warning,) = meta["warnings"]
    assert "with the names that are built in, and this run is with other names (20 names, sha256" in warning, "mini's card"
    assert f"{warning[0].lower()}{warning[1:-1]}" in result.outlines


def test_where_all_names_are_one_token_nothing_is_said(project):
    result, _ = claimed(project, CLAIM, "--prompts=30")
    assert not [line for line in result.outlines if line.startswith(("names", "the card"))]
    meta = json.loads((project.path / "report" / "claims.json").read_text(encoding="utf-8"))["meta"]
    assert "names_in_use" not in meta and meta["warnings"] == []


def test_names_that_cannot_be_read_are_refused(tokenizer, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "nowhere.txt", tmp_path, tmp_path / "binary"):
        message = refusal(tokenizer, path)
        assert f"the names in {path} cannot be read" in message and "one name a line" in message
