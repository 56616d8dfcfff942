"""The claims on circuits of edges: on the embedded model, on noise of its shape, and with numbers that are published of it."""

from pathlib import Path
from typing import Any

import pytest

from circuit_claims.cards.find import find_card
from circuit_claims.embedded import embedded
from tests.support.claim_runs import run_claims

CHAPTER = Path("claims/discovery")
#: What takes no exact patching of edges into heads, which is most of the chapter's time.
FILES = [str(CHAPTER / name) for name in ("test_all_and_no_edges.py", "test_edges_by_hand.py", "test_found_circuits.py")]
FILES += [f"{CHAPTER}/test_attribution_against_patching.py::test_scores_go_with_exact_patching[EAP-the logits]"]
#: Of models whose edges are known, and of GPT-2 small alone.
OF_OTHERS = [str(CHAPTER / name) for name in ("test_known_edges.py", "test_published_circuits.py")]

PUBLISHED = """
[values.mib_cmd_random]
value = 0.75
within = 0.05
unit = "area"
source = "MIB, table 2"

[values.mib_cpr_EAP]
value = 1.2
within = 0.1
unit = "area"
source = "MIB, table 1"

[contested.mib_cpr_EAP]
[[contested.mib_cpr_EAP.readings]]
value = 1.201
setup = "the leaderboard's JSON"
source = "MIB leaderboard"

[values.eap_300_faithfulness]
value = 0.0938
within = 0.1
unit = "share"
source = "EAP-IG repository"

"""


def by_claim(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["claim_id"].removeprefix("discovery/"): row for row in rows}


@pytest.fixture(scope="module")
def of_mini(tmp_path_factory) -> dict[str, dict[str, Any]]:
    return by_claim(run_claims(tmp_path_factory.mktemp("mini"), *FILES, *OF_OTHERS, "--subject", "mini").rows)


def test_on_mini_the_two_ends_are_what_they_are_by_definition(of_mini):
    assert of_mini["all_and_no_edges/all_edges_together_are_the_model"]["verdict"] == "holds"
    assert of_mini["all_and_no_edges/without_edges_nothing_of_the_task_is_left"]["verdict"] == "holds"
    assert of_mini["found_circuits/random_edges_never_do_more_than_the_model"]["verdict"] == "holds"


def test_what_is_the_definitions_bound_is_said_to_be_one(of_mini):
    row = of_mini["found_circuits/a_tenth_of_the_edges_does_what_the_model_does"]
    assert row["basis"] == "definition" and row["verdict"] in ("holds", "refuted", "inconclusive") and 30 <= row["n"] <= 60


def test_what_mini_has_not_is_untested_with_the_reason(of_mini):
    links = "edges_by_hand/the_edges_of_a_link_are_among_the_best"
    assert "in no circuit" in of_mini[f"{links}[previous token to induction]"]["reason"]
    assert "names no 'backup name mover' heads" in of_mini[f"{links}[backups to logits]"]["reason"]
    for name, row in of_mini.items():
        if name.startswith(("known_edges", "published_circuits")):
            assert row["verdict"] == "untested", name
            assert "circuit are not known" in row["reason"] or "has no value" in row["reason"], row["reason"]


def test_on_noise_every_claim_is_refuted_for_there_is_nothing_to_find(tmp_path, cache):
    rows = by_claim(run_claims(tmp_path / "report", *FILES, "--subject", "random:mini").rows)
    spoken = {name: row for name, row in rows.items() if row["verdict"] != "untested"}
    assert len(spoken) >= 12
    # mini's card, by which this noise is asked, says of two claims that they are false: refuted, as foretold.
    foretold = {name for name in spoken if f"discovery/{name}" in find_card("mini").known_false}
    assert {name: row["verdict"] for name, row in spoken.items()} == {
        name: "known false" if name in foretold else "refuted" for name in spoken
    }
    assert all("IO is preferred" in row["reason"] for row in spoken.values()), {row["reason"] for row in spoken.values()}


def test_published_numbers_are_asked_of_their_own_model_alone(tmp_path, cache):
    """With a card that publishes them of this very noise, they are refuted; with another model's card, untested."""
    card = tmp_path / "noise.toml"
    for models, verdicts in (('["random:mini"]', {"refuted"}), ('["another"]', {"untested"})):
        text = embedded("cards", "mini.toml").read_text(encoding="utf-8")
        text = text.replace('models = ["mini"]', f"models = {models}").replace('basis = "measured"', "")
        card.write_text(text.split("\n# What is known to be")[0] + PUBLISHED, encoding="utf-8")
        report = tmp_path / models.strip('[]"').replace(":", "-")
        rows = by_claim(run_claims(report, OF_OTHERS[1], "--subject", "random:mini", "--card", str(card)).rows)
        asked = {name: row for name, row in rows.items() if "has no value" not in row["reason"]}
        assert {row["verdict"] for row in asked.values()} == verdicts, {name: row["reason"] for name, row in asked.items()}
        if verdicts == {"refuted"}:
            assert asked["published_circuits/the_performance_is_as_published[EAP]"]["readings"][0]["value"] == 1.201
        else:
            assert all("run this claim on that model" in row["reason"] for row in asked.values())
