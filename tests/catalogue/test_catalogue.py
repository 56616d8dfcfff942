"""The catalogue of published numbers: complete, true to the claims, and the page that is committed."""

import re
from pathlib import Path

import pytest

from circuit_claims.catalogue.command_line import main
from circuit_claims.catalogue.entries import CatalogueError, Number, read_catalogue
from circuit_claims.catalogue.page import claims_of, page

ROOT = Path(__file__).parents[2]
FILE = ROOT / "claims" / "catalogue.toml"
CATALOGUE = read_catalogue(FILE)
NUMBERS = [number for chapter in CATALOGUE.chapters for number in chapter.numbers]


def test_the_committed_page_is_what_the_catalogue_gives():
    committed = (ROOT / "docs" / "reference" / "coverage.md").read_text(encoding="utf-8")
    assert committed == page(CATALOGUE), "run `circuit-claims coverage --page docs/reference/coverage.md`"


def test_every_claim_of_the_catalogue_exists():
    claims = {claim for number in NUMBERS for claim in number.claims}
    assert len(claims) > 150
    for claim in claims:
        file, _, test = claim.partition("::")
        text = (ROOT / "claims" / file).read_text(encoding="utf-8")
        assert not test or f"def {test.partition('[')[0]}(" in text, claim


def test_every_test_that_a_note_names_exists():
    there = {
        name
        for folder in ("claims", "tests")
        for path in (ROOT / folder).rglob("test_*.py")
        for name in (path.name, *re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8")))
    }
    for number in NUMBERS:
        for name in re.findall(r"\b(test_\w+(?:\.py)?)", number.note):
            assert name in there, (number.id, name)


def test_every_folder_of_claims_is_in_one_chapter():
    named = [folder for chapter in CATALOGUE.chapters for folder in chapter.folders]
    assert len(named) == len(set(named))
    assert set(named) == {path.name for path in (ROOT / "claims").iterdir() if list(path.glob("test_*.py"))}


def test_the_catalogue_has_every_number_of_its_sources():
    ioi = [number.id for number in NUMBERS if number.id.startswith("IOI-")]
    assert ioi == [f"IOI-{i:02d}" for i in (*range(1, 23), *range(30, 38))]
    ids = " ".join(number.id for number in NUMBERS)
    for prefix, last in {"TLM": 33, "ARE": 7, "IND": 6, "GT": 8, "CS": 8, "SUC": 9, "SAE": 11}.items():
        assert {f"{prefix}-{i:02d}" for i in range(1, last + 1)} <= set(re.findall(rf"{prefix}-\d\d", ids)), prefix
    assert {"S0", "S1", "S2", "S3", "S4"} <= set(re.findall(r"S\d", ids))


def test_every_id_says_its_source():
    prefixes = {prefix for number in NUMBERS for prefix in re.findall(r"\b([A-Z]+)-\d|\b(S\d)\b|\b(ROME)\b", number.id)}
    assert {name for names in prefixes for name in names if name} == set(CATALOGUE.sources)


@pytest.mark.parametrize(
    ("note", "cell"),
    [
        ("", "`ioi/test_a.py::test_x`, `ioi/test_a.py::test_y`"),
        ("and the one after it", "`ioi/test_a.py::test_x`, `ioi/test_a.py::test_y` and the one after it"),
        ("no more", "`ioi/test_a.py::test_x`, `ioi/test_a.py::test_y`; no more"),
        ("by order: `test_y`", "`ioi/test_a.py::test_x`; by order: `ioi/test_a.py::test_y`"),
    ],
)
def test_a_cell_has_each_claim_once_and_the_note(note, cell):
    number = Number("IOI-01", "3.56", "tested", ("ioi/test_a.py::test_x", "ioi/test_a.py::test_y"), note)
    assert claims_of(number) == cell


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("status = 'none'", "status = 'maybe'"), "has the status 'maybe': use tested, contested, elsewhere, none"),
        (("status = 'none'", "status = 'tested'"), "is 'tested': name claims where it is tested, and only there"),
        (("note = 'why'", ""), "has no claim: say in a note why not"),
        (("note = 'why'", "nota = 'why'"), "has the unknown key 'nota': use only claims, id, note, published, status"),
        (("note = 'why'", "claims = ['test_x']"), "names 'test_x': write FOLDER/test_FILE.py::test_NAME"),
        (("id = 'X-01'", ""), "lacks 'id': add it"),
        (("[[chapters]]", "[[chapters"), "cannot be read"),
    ],
)
def test_a_wrong_catalogue_is_one_sentence(tmp_path, change, sentence):
    number = "[[chapters.numbers]]\nid = 'X-01'\npublished = '1'\nstatus = 'none'\nnote = 'why'\n"
    text = f"[[chapters]]\ntitle = 'T'\nfolders = ['f']\n{number}"
    (tmp_path / "right.toml").write_text(text, encoding="utf-8")
    assert read_catalogue(tmp_path / "right.toml").chapters[0].numbers[0].note == "why"
    (tmp_path / "wrong.toml").write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(CatalogueError) as raised:
        read_catalogue(tmp_path / "wrong.toml")
    assert sentence in str(raised.value) and "wrong.toml" in str(raised.value)


def test_the_command_counts_lists_and_refuses(capsys, tmp_path):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"{chapter.title}: " in out for chapter in CATALOGUE.chapters)
    assert main(["copy_suppression", "--status", "none"]) == 0
    out = capsys.readouterr().out
    assert "CS-08" in out and "CS-01" not in out and "IOI-01" not in out
    assert main(["nothing"]) == 2 and "there is no chapter 'nothing'" in capsys.readouterr().err
    assert main(["--page", str(tmp_path / "coverage.md")]) == 0
    assert (tmp_path / "coverage.md").read_text(encoding="utf-8") == page(CATALOGUE)
    assert main(["--page", str(tmp_path / "no" / "coverage.md")]) == 2 and "cannot be written" in capsys.readouterr().err
