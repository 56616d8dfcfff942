"""`circuit-claims new`: what it writes runs as it is, and what cannot be used is refused in one sentence."""

import csv
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.heads import Head
from circuit_claims.new_claims import folder
from circuit_claims.new_claims.__main__ import main
from circuit_claims.new_claims.folder import Written
from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.contrasts.strategies import sets_of_clusters
from circuit_claims.prompts.contrasts.table import FEWEST_PAIRS
from tests.tasks.contrast.capitals import capitals

COLUMNS = ("clean", "corrupted", "answer", "foil")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with capitals.csv, as the current one."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "capitals.csv", capitals())
    return tmp_path


def write_pairs(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def new(*arguments: str) -> None:
    main([*arguments])


def test_what_it_writes_runs_as_written(pytester: pytest.Pytester, same_profile: None, capsys):
    write_pairs(pytester.path / "capitals.csv", list(capitals()))
    new("capital", "--pairs", "capitals.csv", "--subject", "mini")
    said = capsys.readouterr().out
    assert "capital: 5 claims" in said and "pytest capital --subject mini" in said
    options = ("--subject", "mini", "--report-dir", "out", "--hypothesis-profile", "fast", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess("-p", "circuit_claims.plugin", "capital", *options)
    rows = json.loads((pytester.path / "out" / "claims.json").read_text(encoding="utf-8"))["rows"]
    assert result.ret == 0 and len(rows) == 5
    assert {row["basis"] for row in rows} == {"re-measured"}
    assert all(row["source"].startswith("exploratory, 20") for row in rows)
    assert [row["verdict"] for row in rows] == ["holds"] * 5


def test_the_card_is_found_on_the_half_that_the_claims_leave_alone(here: Path):
    new("capital", "--pairs", "capitals.csv", "--subject", "mini")
    card = tomllib.loads((here / "capital" / "card.toml").read_text(encoding="utf-8"))
    assert card["settings"]["prompts"] == len(Contrasts.of("capitals.csv", half="discovery", folder=here))
    assert card["families"]["carrier"]["position"] == "END" and card["basis"] == "measured"
    assert 'half="verdict"' in (here / "capital" / "conftest.py").read_text(encoding="utf-8")
    halves = [Contrasts.of("capitals.csv", half=half, folder=here).chosen.tolist() for half in ("discovery", "verdict")]
    assert set(halves[0]).isdisjoint(halves[1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-task", "cannot name a fixture"),
        ("class", "cannot name a fixture"),
        ("test_it", "cannot name a fixture"),
        ("subject", "is a fixture already"),
        ("contrast_task", "is a fixture already"),
    ],
)
def test_a_name_that_no_fixture_can_have_is_refused(here: Path, capsys, name: str, said: str):
    refused(name, "--pairs", "capitals.csv", "--subject", "mini", capsys=capsys, said=said)
    assert not (here / name).exists()


def refused(*arguments: str, capsys, said: str) -> None:
    with pytest.raises(SystemExit) as exit:
        new(*arguments)
    printed = capsys.readouterr().err
    assert exit.value.code == 2 and said in printed and "Traceback" not in printed
    assert len(printed.strip().splitlines()) == 1


def test_a_folder_that_is_there_is_left_as_it_is(here: Path, capsys):
    (here / "capital").mkdir()
    (here / "capital" / "mine.txt").write_text("mine", encoding="utf-8")
    refused("capital", "--pairs", "capitals.csv", "--subject", "mini", capsys=capsys, said="is there already")
    assert [path.name for path in (here / "capital").iterdir()] == ["mine.txt"]


def test_a_model_that_does_not_do_the_task_gets_no_claims(here: Path, capsys):
    refused("capital", "--pairs", "capitals.csv", "--subject", "random:mini", capsys=capsys, said="which chance could do")
    assert sorted(path.name for path in here.iterdir()) == ["capitals.csv"]


def test_a_missing_column_is_named(here: Path, capsys):
    write_pairs(here / "bad.csv", list(capitals()), COLUMNS[:3])
    refused("capital", "--pairs", "bad.csv", "--subject", "mini", capsys=capsys, said="foil")


def test_too_few_pairs_for_two_halves_are_refused(here: Path, capsys):
    write_pairs(here / "few.csv", list(capitals())[:10])
    refused("capital", "--pairs", "few.csv", "--subject", "mini", capsys=capsys, said="half of few.csv has 5 pairs")


def test_a_model_that_is_not_there_is_named(here: Path, capsys):
    refused("capital", "--pairs", "capitals.csv", "--subject", "./nowhere", capsys=capsys, said="nowhere")


def test_nothing_is_left_where_writing_fails(here: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write(here / "capital", {"conftest.py": ""}, here / "capitals.csv")
    assert sorted(path.name for path in here.iterdir()) == ["capitals.csv"]


def test_heads_that_can_be_spared_are_claimed_to_be_so():
    written = Written("it", "pairs.csv", {}, "mini", "2026-01-01", {Head(1, 2): 0.3}, "mean", spared=True)
    compile(written.claims(), "test_it.py", "exec")
    assert "test_the_carriers_can_be_spared" in written.claims() and written.claims().count("def test_") == 5
    assert "least_left_without_the_carriers" in written.claims()


def test_without_heads_there_are_two_claims_and_both_compile():
    written = Written("it", "pairs.csv", {"space": False}, 'a "model"', "2026-01-01", {}, "mean")
    compile(written.conftest(), "conftest.py", "exec")
    compile(written.claims(), "test_it.py", "exec")
    assert written.claims().count("def test_") == 2 and "space=False" in written.conftest()


@given(data=st.data())
def test_every_set_of_clusters_has_enough_pairs(data):
    pairs = Contrasts.of(list(capitals()), half="verdict")
    some = data.draw(sets_of_clusters(pairs))
    chosen = Contrasts(pairs.table, pairs.digest, "verdict", only=some).chosen
    assert len(chosen) >= FEWEST_PAIRS and {pairs.table.clusters[i] for i in chosen} == set(some)


def test_answers_that_are_dealt_out_stay_the_same_in_a_set_of_clusters():
    pairs = Contrasts.of(list(capitals()), half="verdict", dealt=True)
    some = frozenset(str(pairs.table.clusters[i]) for i in pairs.chosen[:10])
    fewer = Contrasts(pairs.table, pairs.digest, "verdict", dealt=True, only=some)
    assert [fewer.prompt(i).right for i in fewer.chosen] == [pairs.prompt(i).right for i in fewer.chosen]
