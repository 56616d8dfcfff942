"""The embedded model: what it was trained to do, on names, pairs, fillers and phrasings that it was never trained on."""

import json

import pytest

from circuit_claims.models.folder import EMBEDDED
from circuit_claims.training.accept import failures, measure

FOLDER = EMBEDDED["mini"]


@pytest.fixture(scope="module")
def results() -> dict:
    return measure(FOLDER, count=1000, seed=2)


def test_it_meets_every_acceptance_bound_on_what_it_never_saw(results):
    """IOI at least 99 %, logit difference between 3 and 8, repeated tokens below 0.5 nats, facts at least 95 %; both with BOS
    and without, on another seed than the record's."""
    assert failures(results) == []


def test_the_bounds_can_be_missed(results):
    """The control: the same check on numbers just beyond its bounds."""
    table = {name: dict(numbers) for name, numbers in results["no bos"].items()}
    table["ioi, all unseen"]["accuracy"] = 0.98
    table["repeated random words"]["loss"] = 0.6
    assert len(failures({"no bos": table})) == 2


def test_its_record_is_of_these_weights(results):
    """The committed record agrees with what is measured here, within the error of 1,000 prompts."""
    record = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))["acceptance"]
    assert record["missed"] == []
    for setting, table in record["results"].items():
        here, there = results[setting]["ioi, all unseen"], table["ioi, all unseen"]
        assert here["logit_difference"] == pytest.approx(
            there["logit_difference"], abs=4 * here["logit_difference_sd"] / 1000**0.5
        )
        for kind in ("capital", "material"):
            assert results[setting][f"facts, {kind}, phrasing unseen"] == pytest.approx(
                table[f"facts, {kind}, phrasing unseen"], abs=1e-4
            )


def test_it_is_small_and_has_nothing_but_safetensors_and_json():
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json"}
    assert sum(path.stat().st_size for path in files) < 8e6
