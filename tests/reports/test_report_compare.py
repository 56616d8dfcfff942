"""Two runs compared: every kind of change, what a reader is told, and exit statuses."""

import json
import subprocess
import sys

import numpy as np
import pytest
from markdown_it import MarkdownIt

from circuit_claims.reports import compare, compare_page, journal
from circuit_claims.reports.__main__ import main
from circuit_claims.reports.compare import change_of, claim_of, difference
from circuit_claims.verdicts.rows import (
    HOLDS,
    INCONCLUSIVE,
    INVALID,
    KNOWN_FALSE,
    NOW_TRUE,
    REFUTED,
    UNTESTED,
    VERDICTS,
    Row,
)
from tests.reports.test_report_render import NASTY, Outline, table_lines
from tests.support.claim_projects import ROOT

META = {"subject": "mini", "weights_sha256": "a" * 64, "card": "mini", "seed": 0, "dtype": "float32", "finished": "now"}


def row(name="behaviour/it_is_so", verdict=HOLDS, **fields):
    """One row, complete and unremarkable but for `fields`."""
    given = {"op": ">", "expected_low": 3.0, "observed": 3.5, "ci_low": 3.4, "ci_high": 3.6, "n": 64, "quantity": "size"}
    return Row(f"ioi/{name}", "It is so.", "ioi", **{**given, **fields}, verdict=verdict).as_dict()


def report(folder, rows, **meta):
    """A report's claims.json in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "claims.json"
    path.write_text(json.dumps({"meta": META | meta, "rows": rows}), encoding="utf-8")
    return path


def compared(tmp_path, base, other, *, before=None, after=None):
    """The comparison of two made-up reports."""
    first, second = report(tmp_path / "base", base, **(before or {})), report(tmp_path / "other", other, **(after or {}))
    return compare.compare(compare.read(first), compare.read(second))


def kinds(found):
    return {one.claim_id.removeprefix("ioi/"): one.change for one in found.changes}


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (HOLDS, REFUTED, compare.FELL),
        (NOW_TRUE, REFUTED, compare.FELL),
        (HOLDS, KNOWN_FALSE, compare.FELL),
        (HOLDS, INVALID, compare.NO_LONGER_RUNS),
        (REFUTED, INVALID, compare.NO_LONGER_RUNS),
        (HOLDS, INCONCLUSIVE, compare.WEAKENED),
        (INCONCLUSIVE, REFUTED, compare.WEAKENED),
        (REFUTED, HOLDS, compare.ROSE),
        (KNOWN_FALSE, NOW_TRUE, compare.ROSE),
        (INCONCLUSIVE, HOLDS, compare.STRENGTHENED),
        (KNOWN_FALSE, INCONCLUSIVE, compare.STRENGTHENED),
        (KNOWN_FALSE, REFUTED, compare.STAYED),
        (INCONCLUSIVE, INCONCLUSIVE, compare.STAYED),
        (UNTESTED, HOLDS, compare.NOT_TESTED),
        (HOLDS, UNTESTED, compare.NOT_TESTED),
        (UNTESTED, INVALID, compare.NOT_TESTED),
        (INVALID, HOLDS, compare.INVALID_IN_BASE),
        (INVALID, INVALID, compare.INVALID_IN_BASE),
    ],
)
def test_the_change_between_two_verdicts(before, after, change):
    assert change_of(before, after) == change


def test_every_pair_of_verdicts_has_its_change():
    assert {change_of(a, b) for a in VERDICTS for b in VERDICTS} <= set(compare.MEANINGS)
    assert all(
        change_of(verdict, verdict) in (compare.STAYED, compare.NOT_TESTED, compare.INVALID_IN_BASE) for verdict in VERDICTS
    )


@pytest.mark.parametrize(
    ("other", "moved"),
    [
        ({"observed": 3.7, "ci_low": 3.6, "ci_high": 3.8}, True),  # 0.2 > √(0.1² + 0.1²), though the intervals touch
        ({"observed": 3.63, "ci_low": 3.53, "ci_high": 3.73}, False),
        ({"observed": 3.3, "ci_low": 3.2, "ci_high": 3.4}, True),
        ({"observed": 3.7, "ci_low": 3.35, "ci_high": 3.72}, False),  # the half-width that faces base is the wide one
        ({"observed": 3.7, "ci_low": 3.69, "ci_high": 4.5}, True),
        ({"observed": 3.7, "ci_low": 3.6, "ci_high": 3.8, "quantity": "another"}, False),
        ({"observed": 3.7, "ci_low": None, "ci_high": None}, False),
        ({"observed": None}, False),
        ({"kind": "universal", "observed": 3.7, "ci_low": 3.6, "ci_high": 3.8}, False),  # ranges that touch
        ({"kind": "universal", "observed": 3.7, "ci_low": 3.61, "ci_high": 3.8}, True),
    ],
)
def test_a_value_moves_where_its_intervals_do_not_allow_the_difference(tmp_path, other, moved):
    found = compared(tmp_path, [row()], [row(**other)])
    assert kinds(found) == {"behaviour/it_is_so": compare.MOVED if moved else compare.STAYED}


def test_rounding_moves_no_exact_value():
    exact = row(observed=3.5, ci_low=3.5, ci_high=3.5)
    assert not difference(exact, row(observed=3.50001, ci_low=3.50001, ci_high=3.50001)).clear
    assert difference(exact, row(observed=3.51, ci_low=3.51, ci_high=3.51)).clear


def test_of_claims_that_did_not_change_no_more_than_stated_are_called_moved():
    generator = np.random.default_rng(0)

    def measured(mean):
        values = generator.exponential(mean, size=400)
        half = 1.96 * values.std() / 20
        return row(observed=values.mean(), ci_low=values.mean() - half, ci_high=values.mean() + half)

    def moved(mean):
        return np.mean([difference(measured(1.0), measured(mean)).clear for _ in range(2000)])

    assert moved(1.0) <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
    assert moved(1.4) > 0.95


def test_rows_are_paired_by_their_own_ids(tmp_path):
    base = [row("a/x"), row("a/x#2"), row("a/x[L0H1]"), row("a/gone", INCONCLUSIVE)]
    other = [row("a/new"), row("a/x", REFUTED), row("a/x#2"), row("a/x[L0H1]", INCONCLUSIVE)]
    assert kinds(compared(tmp_path, base, other)) == {
        "a/new": compare.ONLY_IN_OTHER,
        "a/x": compare.FELL,
        "a/x#2": compare.STAYED,
        "a/x[L0H1]": compare.WEAKENED,
        "a/gone": compare.ONLY_IN_BASE,
    }
    assert claim_of("ioi/a/x[#2]") == "ioi/a/x[#2]" and claim_of("ioi/a/x[L0H1]#12") == "ioi/a/x[L0H1]"


def test_an_id_that_comes_twice_hides_no_row(tmp_path):
    found = compared(tmp_path, [row(), row()], [row(), row(verdict=REFUTED)])
    assert [one.change for one in found.changes] == [compare.STAYED, compare.FELL]


def test_a_row_that_says_how_a_claim_ended_badly_is_a_loss_and_no_novelty(tmp_path):
    # A bare assertion leaves a row only where it fails.
    found = compared(tmp_path, [row("a/x"), row("a/y"), row("a/z")], [row("a/x"), row("a/x#2", REFUTED)])
    assert kinds(found)["a/x#2"] == compare.FELL and found.lost == 1
    found = compared(tmp_path, [row("a/x")], [row("a/x"), row("a/x#2", INVALID, observed=None)])
    assert kinds(found)["a/x#2"] == compare.NO_LONGER_RUNS
    found = compared(tmp_path, [row("a/x", REFUTED)], [row("a/x"), row("a/x#2", REFUTED)])
    assert kinds(found) == {"a/x": compare.ROSE, "a/x#2": compare.ONLY_IN_OTHER}
    compare_page.write(found, tmp_path)


def test_a_row_that_a_refuted_claim_did_not_come_to_says_so(tmp_path):
    found = compared(tmp_path, [row("a/x"), row("a/x#2")], [row("a/x", REFUTED)])
    (missing,) = found.of(compare.ONLY_IN_BASE)
    assert missing.claim_id == "ioi/a/x#2" and "ended before" in missing.notes[0]


def test_another_bound_is_marked_and_a_verdict_that_only_the_bound_changed_says_so(tmp_path):
    found = compared(tmp_path, [row("a/x"), row("a/y")], [row("a/x", REFUTED, expected_low=4.0), row("a/y", expected_low=3.1)])
    fell, stayed = found.changes
    assert fell.change == compare.FELL and fell.notes[0] == compare.OTHER_BOUND and "the bound that differs" in fell.notes[1]
    assert stayed.change == compare.STAYED and stayed.notes == (compare.OTHER_BOUND,)
    assert "2 claims are held against another bound" in found.remarks[-1]
    assert "expected > 4, in base > 3" in text_of(found)


def text_of(found, width=100):
    return "\n".join(line.text for line in compare_page.lines(found, width))


def test_different_set_ups_are_said(tmp_path):
    before = {
        "versions": {"torch": "2.13", "numpy": "2"},
        "prepend_bos": False,
        "prompts": 120,
        "profile": "default",
        "device": "cpu",
        "mode": "processed",
    }
    after = {
        "versions": {"torch": "2.14", "numpy": "2"},
        "prepend_bos": True,
        "prompts": 60,
        "profile": "fast",
        "device": "cuda",
        "mode": "raw",
        "seed": 1,
        "card": "gpt2-small",
        "dtype": "bfloat16",
        "pytest_args": ["--names", "mine.txt"],
        "a_fact_of_tomorrow": 3,
    }
    found = compared(tmp_path, [row()], [row()], before=before, after=after)
    said = {one.label: (one.base, one.other) for one in found.set_up}
    assert said == {
        "version of torch": ("2.13", "2.14"),
        "BOS prepended": ("no", "yes"),
        "prompts": ("120", "60"),
        "profile": ("default", "fast"),
        "device": ("cpu", "cuda"),
        "weight mode": ("processed", "raw"),
        "seed": ("0", "1"),
        "card": ("mini", "gpt2-small"),
        "dtype": ("float32", "bfloat16"),
        "names": ("the suite's", "mine.txt"),
        "a fact of tomorrow": ("not noted", "3"),
    }
    html, text = Outline(compare_page.page(found)).text, compare_page.markdown(found) + text_of(found)
    for label in said:
        assert label in html and label in text


def test_the_same_set_up_is_no_matter_and_the_same_weights_are_said(tmp_path):
    found = compared(tmp_path, [row()], [row()])
    assert not found.set_up and "the same weights" in found.remarks[0]
    found = compared(tmp_path, [row()], [row()], after={"weights_sha256": "b" * 64, "subject": "mini-8bit"})
    assert not found.set_up and not found.remarks
    assert "mini-8bit" in text_of(found) and "mini-8bit against mini" in compare_page.page(found)


def test_a_run_that_did_not_finish_and_its_warnings_are_said(tmp_path):
    report(tmp_path / "base", [row()], warnings=["it was interrupted"])
    path = tmp_path / "other" / "claims.jsonl"
    journal.start(path, {"subject": "mini"})
    journal.append_row(path, row(), 0)
    found = compare.compare(compare.read(tmp_path / "base"), compare.read(tmp_path / "other"))
    assert kinds(found) == {"behaviour/it_is_so": compare.STAYED}
    assert any("base: it was interrupted" in remark for remark in found.remarks)
    assert any("other did not finish" in remark for remark in found.remarks)


def test_untested_is_counted_by_side_and_a_comparison_of_nothing_says_so(tmp_path):
    base = [row("a/x", UNTESTED), row("a/y"), row("a/z", UNTESTED)]
    other = [row("a/x"), row("a/y", UNTESTED), row("a/z", UNTESTED)]
    found = compared(tmp_path, base, other)
    assert "3 untested (1 in base alone, 1 in other alone, 1 in both)" in text_of(found)
    assert "nothing can be said" in found.remarks[-1]
    assert not found.lost


def everything(tmp_path, **fields):
    """A comparison in which every kind of change occurs."""
    pairs = {
        compare.FELL: (HOLDS, REFUTED),
        compare.NO_LONGER_RUNS: (HOLDS, INVALID),
        compare.WEAKENED: (HOLDS, INCONCLUSIVE),
        compare.ROSE: (REFUTED, HOLDS),
        compare.STRENGTHENED: (INCONCLUSIVE, HOLDS),
        compare.STAYED: (HOLDS, HOLDS),
        compare.NOT_TESTED: (HOLDS, UNTESTED),
        compare.INVALID_IN_BASE: (INVALID, HOLDS),
    }
    base = [row(f"a/{kind}", before, **fields) for kind, (before, _) in pairs.items()]
    other = [row(f"a/{kind}", after, **fields) for kind, (_, after) in pairs.items()]
    base += [row(f"a/{compare.MOVED}", **fields), row(f"a/{compare.ONLY_IN_BASE}", **fields)]
    other += [row(f"a/{compare.MOVED}", **fields, observed=9.0, ci_low=8.9), row(f"a/{compare.ONLY_IN_OTHER}", **fields)]
    return compared(tmp_path, base, other)


def test_every_format_tells_every_change(tmp_path):
    found = everything(tmp_path)
    assert all(kind == claim.removeprefix("a/") for claim, kind in kinds(found).items())
    page = compare_page.write(found, tmp_path / "out")
    assert sorted(path.name for path in page.parent.iterdir()) == sorted(compare_page.WRITTEN)
    data = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert data["lost"] == 2 and data["counts"] == found.counts()
    assert [one["change"] for one in data["changes"]] == [one.change for one in found.changes]
    html, markdown = Outline(page.read_text(encoding="utf-8")), (tmp_path / "out" / "compare.md").read_text()
    for kind in found.counts():
        assert f"ioi/a/{kind}" in html.text and f"## {kind}: 1" in markdown
        assert f"1 {kind}" in text_of(found)
    listed = text_of(found)[: text_of(found).rindex("\n\n")]
    assert "ioi/a/fell" in listed and "ioi/a/moved" in listed and "ioi/a/stayed" not in listed


def test_the_terminal_cuts_no_list_of_losses_and_no_number(tmp_path):
    base = [row(f"a/x{i}") for i in range(40)] + [row(f"a/y{i}") for i in range(40)]
    other = [row(f"a/x{i}", REFUTED) for i in range(40)] + [row(f"a/y{i}", INCONCLUSIVE) for i in range(40)]
    text = text_of(compared(tmp_path, base, other), width=40)
    assert all(f"a/x{i}" in text for i in range(40))
    assert text.count("ioi/a/y") == 10 and "and 30 more" in text
    assert text.count("3.50 [3.40, 3.60] → 3.50 [3.40, 3.60]") == 50


def test_text_from_outside_stays_text(tmp_path):
    nasty = {"statement": NASTY, "quantity": NASTY, "unit": NASTY, "op": NASTY, "reason": NASTY}
    base = [{**row(NASTY), **nasty}]
    meta = {"subject": NASTY, "card": NASTY, "warnings": [NASTY], NASTY: NASTY, "versions": {NASTY: NASTY}}
    found = compared(tmp_path, base, [{**base[0], "verdict": REFUTED, "expected_low": 9.0}], after=meta)
    outline = Outline(compare_page.page(found))
    assert not {"script", "img"} & set(outline.tags) and not outline.values("onerror")
    assert outline.tags.count("svg") == 1 and "{{ 7*7 }}" in outline.text
    assert "\x1b" not in outline.text and "\x1b" not in text_of(found) and "\u202e" not in text_of(found)
    text = compare_page.markdown(found)
    read = MarkdownIt("commonmark").enable("table").render(text)
    assert table_lines(text) and "<script" not in read and "<code" not in read and "<img" not in read
    assert not [value for value in outline.values("src")] and "link" not in outline.tags


def test_ranks_and_rates_are_told_in_places_and_points(tmp_path):
    rank = row("a/rank", op="top k", expected_low=1.0, expected_high=5.0, observed=5.0, ci_low=5.0, ci_high=5.0)
    rate = row("a/rate", unit="rate", op="rate >=", expected_low=0.9, observed=0.99, ci_low=0.98, ci_high=1.0)
    further = {"observed": 9.0, "ci_low": 8.0, "ci_high": 9.0}, {"observed": 0.94, "ci_low": 0.93, "ci_high": 0.95}
    found = compared(tmp_path, [rank, rate], [rank | further[0], rate | further[1]])
    markdown = compare_page.markdown(found)
    assert "+4 places [3, 4]" in markdown and "−5.00 points" in markdown and "`ioi/a/rank`" in markdown


def test_the_command_line_says_by_its_exit_status_whether_a_claim_was_lost(tmp_path, capsys):
    base = report(tmp_path / "base", [row("a/x"), row("a/y", INCONCLUSIVE)])
    worse = report(tmp_path / "worse", [row("a/x", REFUTED), row("a/y", INCONCLUSIVE)])
    broken = report(tmp_path / "broken", [row("a/x", INVALID), row("a/y", INCONCLUSIVE)])
    weaker = report(tmp_path / "weaker", [row("a/x", INCONCLUSIVE), row("a/y", REFUTED)])
    for other, status in [(base, 0), (worse, 1), (broken, 1), (weaker, 0)]:
        out = tmp_path / f"out-{other.parent.name}"
        assert main(["compare", str(base), str(other), "--out", str(out)]) == status
        printed = capsys.readouterr().out
        assert printed.strip().endswith(f"comparison: {out / 'compare.html'}")
    assert main(["compare", str(base.parent), str(worse.parent)]) == 1
    assert (worse.parent / "compare.html").exists() and not (base.parent / "compare.html").exists()


def test_equal_reports_lose_nothing(tmp_path, capsys):
    paths = [str(report(tmp_path / name, [row(f"a/{v}", v) for v in VERDICTS])) for name in ("base", "other")]
    assert main(["compare", *paths]) == 0
    assert "0 fell · 0 no longer runs · 5 stayed · 1 untested (1 in both) · 1 invalid in base" in capsys.readouterr().out


def test_the_command_runs_where_the_output_knows_no_unicode(tmp_path):
    paths = [str(report(tmp_path / name, [row("a/x", verdict)])) for name, verdict in (("base", HOLDS), ("other", REFUTED))]
    command = [sys.executable, "-m", "circuit_claims.reports", "compare", *paths]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "holds ? refuted" in done.stdout and not done.stderr


BAD = {
    "nowhere.json": None,
    "empty.json": b"",
    "cut.json": json.dumps({"meta": META, "rows": [row()]}).encode()[:-40],
    "binary.json": b"\xff\xfe\x00",
    "list.json": b"[]",
    "other.json": b'{"results": []}',
    "comparison.json": b'{"base": {}, "changes": []}',
    "no_rows.json": json.dumps({"meta": META, "rows": []}).encode(),
    "no_claim.json": json.dumps({"meta": META, "rows": [{"verdict": "holds"}]}).encode(),
    "a_number.json": json.dumps({"meta": META, "rows": [3]}).encode(),
    "verdict_of_tomorrow.json": json.dumps({"meta": META, "rows": [row(verdict="maybe")]}).encode(),
    "no_number.json": json.dumps({"meta": META, "rows": [row(observed="3.5")]}).encode(),
    "odd_meta.json": json.dumps({"meta": META | {"versions": 3}, "rows": [row()]}).encode(),
    "damaged.jsonl": b'{"neither": 1}\n{"meta": {}}\n',
    "empty.jsonl": b"",
    "empty_folder": "folder",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", ["base", "other"])
def test_bad_input_is_one_sentence_that_names_the_file_and_exit_status_2(tmp_path, capsys, name, place):
    good, bad = report(tmp_path / "good", [row()]), tmp_path / name
    if BAD[name] == "folder":
        bad.mkdir()
    elif BAD[name] is not None:
        bad.write_bytes(BAD[name])
    pair = [str(bad), str(good)] if place == "base" else [str(good), str(bad)]
    assert main(["compare", *pair]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and name in printed.err and not printed.out
    assert not list(tmp_path.rglob("compare.*"))


def test_a_damaged_report_beside_its_journal_names_the_journal(tmp_path, capsys):
    path = report(tmp_path / "base", [row()])
    path.write_text(path.read_text()[:-30])
    journal.start(path.with_suffix(".jsonl"), META)
    assert main(["compare", str(path), str(path)]) == 2
    assert f"give {path.with_suffix('.jsonl')}" in capsys.readouterr().err


def test_reports_without_a_common_claim_are_refused(tmp_path, capsys):
    paths = [str(report(tmp_path / name, [row(f"a/{name}")])) for name in ("base", "other")]
    assert main(["compare", *paths]) == 2
    assert "no claim in common" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence_and_exit_status_2(tmp_path, capsys):
    path = str(report(tmp_path / "base", [row()]))
    (tmp_path / "file").write_text("")
    assert main(["compare", path, path, "--out", str(tmp_path / "file" / "out")]) == 2
    assert "--out" in capsys.readouterr().err
