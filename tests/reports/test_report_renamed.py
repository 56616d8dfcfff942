"""A claim that was renamed is the same claim: in comparisons with older reports, and on cards."""

import pytest

from circuit_claims.cards.card import read_card
from circuit_claims.renamed_claims import RENAMED, current_id
from circuit_claims.reports import compare
from tests.reports.test_report_compare import compared, row
from tests.support.claim_projects import ROOT

OLD = "other_circuits/greater_than/the_model_prefers_later_years"
NEW = "greater_than/year_spans/the_model_prefers_later_years"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, NEW),
        (f"{OLD}#2", f"{NEW}#2"),
        ("other_circuits/successors/hits_on_numerals[L9H1]", "successors/next_scores/hits_on_numerals[L9H1]"),
        (
            "other_circuits/successors/the_circuit_of_names_cannot_count",
            "successors/counting/the_circuit_of_names_cannot_count",
        ),
        ("ioi/behaviour/it_is_so", "ioi/behaviour/it_is_so"),
        (NEW, NEW),
    ],
)
def test_an_old_id_means_the_claim_of_this_version(old, new):
    assert current_id(old) == new


def test_every_renamed_claim_exists_in_this_version():
    for _, new in RENAMED:
        chapter, file, name = new.split("/")
        source = (ROOT / "claims" / chapter / f"test_{file}.py").read_text(encoding="utf-8")
        assert f"def test_{name.partition('[')[0]}" in source, new


def test_a_comparison_pairs_a_report_of_an_earlier_version(tmp_path):
    old = [row() | {"claim_id": OLD}, row() | {"claim_id": f"{OLD}#2"}]
    new = [row() | {"claim_id": NEW}, row() | {"claim_id": f"{NEW}#2"}]
    found = compared(tmp_path, old, new)
    assert [(change.claim_id, change.change) for change in found.changes] == [
        (NEW, compare.STAYED),
        (f"{NEW}#2", compare.STAYED),
    ]


def test_a_card_of_an_earlier_version_still_calls_the_claim_known_false(tmp_path):
    card = tmp_path / "old.toml"
    card.write_text(f'title = "old"\n[shape]\nlayers = 1\nheads = 1\n[known_false]\n"{OLD}" = "it counts backwards"\n')
    assert read_card(card).known_false == {NEW: "it counts backwards"}
