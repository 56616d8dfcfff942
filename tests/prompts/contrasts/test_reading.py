"""Pairs from Python, from files and from data sets, and what is said of those that cannot be used."""

import json
import time

import pandas
import pytest

from circuit_claims.prompts.contrasts.errors import PairsError
from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.contrasts.read import read_pairs

WORDS = "hot:cold big:small old:young fast:slow rich:poor dark:light wet:dry hard:soft high:low café:bar".split()
AROUND = list(zip(WORDS, WORDS[1:] + WORDS[:1], strict=True))
PAIRS = [
    {
        "clean": f"The opposite of [word: {one.split(':')[0]}] is",
        "corrupted": f"The opposite of [word: {other.split(':')[0]}] is",
        "answer": one.split(":")[1],
        "foil": other.split(":")[1],
    }
    for one, other in AROUND
]


def said_of(source, **options) -> str:
    """The one sentence that a source is refused with."""
    with pytest.raises(PairsError) as caught:
        read_pairs(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_row(row: int, **changes):
    """The pairs with one row changed, counted from 1."""
    return [pair | changes if i == row else pair for i, pair in enumerate(PAIRS, start=1)]


# Where pairs come from


def written(folder, ending: str):
    """The pairs as a file of a kind."""
    path, frame = folder / f"pairs{ending}", pandas.DataFrame(PAIRS)
    if ending == ".csv":
        frame.to_csv(path, index=False)
    elif ending == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, PAIRS)), encoding="utf-8")
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file_has_the_same_pairs(tmp_path, ending):
    written(tmp_path, ending)
    table = read_pairs(f"pairs{ending}", folder=tmp_path)
    assert table.name == f"pairs{ending}" and len(table) == len(PAIRS)
    assert table.digest == read_pairs(PAIRS).digest
    assert Contrasts.of(table) == Contrasts.of(PAIRS) and hash(Contrasts.of(table)) == hash(Contrasts.of(PAIRS))
    prompt = table.prompt(0, 0)
    assert (prompt.text, prompt.corrupted_text, prompt.answers) == (
        "The opposite of hot is",
        "The opposite of big is",
        ("cold", "small"),
    )
    assert prompt.text[slice(*prompt.phrases[0][1:])] == "hot" and prompt.changed("corrupted").phrases == (("word", 16, 19),)


def test_frames_columns_and_data_sets_have_the_same_pairs(tmp_path):
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(PAIRS)
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "few": data.select(range(8))}).save_to_disk(tmp_path / "two")
    columns = {column: [pair[column] for pair in PAIRS] for column in PAIRS[0]}
    for source in (pandas.DataFrame(PAIRS), columns, data, tmp_path / "one", tmp_path / "two"):
        assert read_pairs(source).digest == read_pairs(PAIRS).digest
    assert len(read_pairs(tmp_path / "two", split="few")) == 8
    assert "has no split 'test': give one of train, few" in said_of(tmp_path / "two", split="test")
    (tmp_path / "empty").mkdir()
    assert "empty holds no data set" in said_of(tmp_path / "empty")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-with-mark"])
def test_a_spreadsheets_encodings_and_line_ends_are_read(tmp_path, encoding):
    text = pandas.DataFrame(PAIRS).to_csv(index=False, lineterminator="\r\n", sep=";")
    content = b"\xff\xfe" + text.encode("utf-16-le") if encoding.endswith("mark") else text.encode(encoding)
    (tmp_path / "pairs.csv").write_bytes(content)
    assert read_pairs(tmp_path / "pairs.csv").digest == read_pairs(PAIRS).digest


def test_latin_1_is_read_where_it_is_named(tmp_path):
    path = tmp_path / "pairs.csv"
    pandas.DataFrame(PAIRS).to_csv(path, index=False, encoding="latin-1")
    assert said_of(path).startswith("pairs.csv is not UTF-8 (byte 0xe9 in line 10): save it as UTF-8, or say which it is")
    assert read_pairs(path, encoding="latin-1").digest == read_pairs(PAIRS).digest
    assert "'martian' is no encoding that Python knows" in said_of(path, encoding="martian")


def test_utf_16_without_its_mark_is_told(tmp_path):
    (tmp_path / "pairs.csv").write_bytes("clean,corrupted,answer,foil\na,b,c,d".encode("utf-16-le"))
    assert said_of(tmp_path / "pairs.csv").startswith("pairs.csv has NUL characters")


def test_words_that_mean_nothing_to_pandas_are_answers():
    assert read_pairs(with_row(1, answer="None", foil="NA")).prompt(0, 0).answers == ("None", "NA")


@pytest.mark.parametrize("text", ['["NA", "null"]', "['NA', 'null']"])
def test_a_cell_may_list_answers(tmp_path, text):
    pandas.DataFrame(with_row(1, answer=text)).to_csv(tmp_path / "pairs.csv", index=False)
    assert read_pairs(tmp_path / "pairs.csv").prompt(0, 0).right == ("NA", "null")
    assert read_pairs(with_row(1, answer=["NA", "null"])).prompt(0, 0).right == ("NA", "null")


def test_the_form_of_EAP_IG_is_read():
    pairs = [{"clean": f"{i} a", "corrupted": f"{i} b", "correct_idx": 7 + i, "incorrect_idx": "[5, 6]"} for i in range(8)]
    assert read_pairs(pairs).prompt(2, 2).right == (9,) and read_pairs(pairs).prompt(2, 2).wrong == (5, 6)
    assert read_pairs(pairs).largest_token == (14, 8)
    pairs[3]["correct_idx"] = "seven"
    assert said_of(pairs).startswith("row 4 of the list of pairs has 'seven' in the column 'correct_idx'")


# What cannot be used


@pytest.mark.parametrize("column", ["clean", "corrupted", "answer", "foil"])
def test_a_missing_column_is_named(column):
    pairs = [{key: value for key, value in pair.items() if key != column} for pair in PAIRS]
    assert said_of(pairs).startswith(f"the list of pairs has no column {column!r} (its columns: ")


@pytest.mark.parametrize("foil", ["cold", " cold", ["warm", "cold"]])
def test_an_answer_that_is_its_own_foil_is_refused(foil):
    assert said_of(with_row(1, foil=foil)).startswith("row 1 of the list of pairs has 'cold' both as answer and as foil")


def test_a_corrupted_text_that_is_the_clean_one_is_refused():
    said = said_of(with_row(3, corrupted=PAIRS[2]["clean"]))
    assert said.startswith("row 3 of the list of pairs has the same text as clean and as corrupted ('The opposite of old is')")


@pytest.mark.parametrize(
    ("row", "changes", "said"),
    [
        (
            2,
            {"clean": "The opposite of [word: big is"},
            "(clean: 'The opposite of [word: big is') has a mark 'word' that is not",
        ),
        (2, {"corrupted": "The [a: b [word: c]]"}, "(corrupted: 'The [a: b [word: c]]') has a mark 'word' inside the mark 'a'"),
        (1, {"corrupted": "The opposite of big is"}, "has the mark 'word' in its clean text and not in its corrupted one"),
        (2, {"clean": "The opposite of big is"}, "has the mark 'word' in its corrupted text and not in its clean one"),
        (4, {"clean": "a b", "corrupted": "a c"}, "marks nothing where row 1 marks 'word': mark the same in every row"),
        (4, {"clean": "[b: a] b", "corrupted": "a [b: c]"}, "marks 'b' where row 1 marks 'word': mark the same in every row"),
    ],
)
def test_marks_that_do_not_match_are_told_with_their_row(row, changes, said):
    assert said_of(with_row(row, **changes)).startswith(f"row {row} of the list of pairs {said}")


def test_brackets_can_be_text():
    pairs = [{"clean": f"[{i}", "corrupted": f"{i}]", "answer": "a", "foil": "b"} for i in range(8)]
    assert "that begins no mark" in said_of(pairs)
    assert read_pairs(pairs, marks=False).prompt(0, 0).text == "[0" and not read_pairs(pairs, marks=False).roles


def test_three_pairs_are_too_few():
    assert said_of(PAIRS[:3]) == ("the list of pairs has 3 pairs: give at least 8, since fewer give no interval worth the name")
    assert "has 3 different pairs" in said_of(PAIRS[:3] * 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clean": ""}, "has nothing in the column 'clean'"),
        ({"corrupted": 7}, "has 7, which is no text, in the column 'corrupted'"),
        ({"answer": None}, "has None in the column 'answer'"),
        ({"foil": []}, "has [] in the column 'foil'"),
        ({"answer": ["cold", 3]}, "has ['cold', 3] in the column 'answer'"),
    ],
)
def test_a_cell_without_its_text_is_told(changes, said):
    assert said_of(with_row(5, **changes)).startswith(f"row 5 of the list of pairs {said}")


def test_a_row_without_its_cluster_is_told():
    pairs = [pair | {"cluster": "a"} for pair in PAIRS]
    pairs[2]["cluster"] = ""
    assert said_of(pairs).startswith("row 3 of the list of pairs has nothing in the column 'cluster'")


@pytest.mark.parametrize("content", [b"", b" \r\n", b"\n\n"])
def test_an_empty_file_is_told(tmp_path, content):
    for ending in (".csv", ".jsonl", ".parquet"):
        (tmp_path / f"pairs{ending}").write_bytes(content)
        assert said_of(tmp_path / f"pairs{ending}").startswith(f"pairs{ending} is empty")


def test_a_file_of_headings_alone_is_told(tmp_path):
    (tmp_path / "pairs.csv").write_text("clean,corrupted,answer,foil\n", encoding="utf-8")
    assert said_of(tmp_path / "pairs.csv").startswith("pairs.csv has no pairs")


@pytest.mark.parametrize(("line", "said"), [('{"clean": "a', "is no JSON ("), ("[1, 2]", "is no JSON object")])
def test_a_broken_line_is_named(tmp_path, line, said):
    lines = list(map(json.dumps, PAIRS))
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines[:4], "", line, *lines[4:]]), encoding="utf-8")
    assert said_of(tmp_path / "pairs.jsonl").startswith(f"line 6 of pairs.jsonl {said}")


def test_a_row_of_a_file_is_counted_as_a_spreadsheet_does(tmp_path):
    pandas.DataFrame(with_row(1, foil="cold")).to_csv(tmp_path / "pairs.csv", index=False)
    assert said_of(tmp_path / "pairs.csv").startswith("row 2 of pairs.csv")


def test_what_is_no_file_of_pairs_is_told(tmp_path):
    assert "cannot be read (No such file or directory)" in said_of(tmp_path / "pairs.csv")
    assert "is no file of pairs: give one that ends in .csv" in said_of(tmp_path / "pairs.txt")
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 no")
    assert said_of(tmp_path / "pairs.parquet").startswith("pairs.parquet cannot be read as Parquet")
    (tmp_path / "pairs.csv").write_text('clean,corrupted,answer,foil\na,"b,c\n', encoding="utf-8")
    assert said_of(tmp_path / "pairs.csv").startswith("pairs.csv cannot be read as a table")
    assert said_of(7).startswith("these are no pairs")


def test_a_hundred_thousand_pairs_are_read_in_seconds_and_made_when_asked_for(monkeypatch):
    from circuit_claims.prompts.contrasts import table

    made = []
    monkeypatch.setattr(table, "ContrastPrompt", lambda *parts: made.append(parts))
    columns = {
        "clean": [f"The opposite of [word: w{i}] is" for i in range(100_000)],
        "corrupted": [f"The opposite of [word: v{i}] is" for i in range(100_000)],
        "answer": [f"a{i % 1000}" for i in range(100_000)],
        "foil": [f"b{i % 1000}" for i in range(100_000)],
    }
    begun = time.perf_counter()
    pairs = Contrasts.of(columns, half="verdict", dealt=True)
    pairs.check()
    stream = pairs.stream(0)
    for _ in range(120):
        next(stream)
    seconds = time.perf_counter() - begun
    assert len(pairs) == 50_000 and len(made) == 120
    assert seconds < 30, "some seconds alone; the bound allows for a machine that is busy with other things"
