"""Discovery on a model whose tokenizer puts BOS before what it reads: the card says how it was measured."""

import contextlib

import pytest

from circuit_claims.cards.card import read_card
from circuit_claims.discovery import tables
from circuit_claims.discovery.__main__ import main
from circuit_claims.discovery.survey import Survey
from circuit_claims.threads import SMALL
from circuit_claims.untested import Untested
from tests.support.bos_models import begin_with_bos
from tests.support.tiny_models import save_tiny_gpt2


@pytest.mark.parametrize(("options", "with_bos"), [([], True), (["--bos", "no"], False), (["--no-prepend-bos"], False)])
def test_the_card_says_whether_prompts_began_with_bos_where_the_tokenizer_decided_it(tmp_path, capsys, options, with_bos):
    folder = begin_with_bos(save_tiny_gpt2(tmp_path / "model", n_layer=2, n_head=2, n_embd=16))
    path = tmp_path / "mine.toml"
    main(["--subject", str(folder), "--out", str(path), "--prompts", "30", "--chapters", "facts", *options])
    card = read_card(path)
    assert card.settings.prepend_bos is with_bos
    bos = "with BOS" if with_bos else "without BOS"
    assert card.values and all(
        f"seed 0, {bos}, " in value.source for value in card.values.values() if not value.key.startswith("fact")
    )
    command = capsys.readouterr().out.splitlines()[-1]
    assert command.startswith("next: ") and ("--bos no" in command) is not with_bos, "the next run measures as this one did"


@pytest.mark.parametrize(("n_parameters", "measured"), [(SMALL - 1, True), (SMALL, False)])
def test_a_large_models_faithfulness_is_measured_with_bos_where_its_card_is(mini, monkeypatch, n_parameters, measured):
    """A small model's costs nothing either way; a large one's, thousands of forward passes."""
    survey = Survey.of(mini, n=30, seed=0, prepend_bos=False)
    monkeypatch.setattr(mini, "n_parameters", n_parameters)
    monkeypatch.setattr(tables, "faithfulness_table", measure := Measured())
    with contextlib.suppress(Untested):
        found = tables.by_template(survey, mini.card, prepend_bos=True)
        assert "--bos yes measures it" in found.left_out["faithfulness_with_BOS"]
    assert measure.called == measured
    with pytest.raises(Untested):
        tables.by_template(survey, mini.card, prepend_bos=False)


class Measured:
    """In place of the table: notes that it was asked for, and measures nothing."""

    called = False

    def __call__(self, *_: object, **__: object) -> None:
        self.called = True
        raise Untested("nothing is measured here")
