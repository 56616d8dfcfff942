"""Discovery on a model whose tokenizer puts BOS before what it reads: the card says how it was measured."""

import pytest

from circuit_claims.cards.card import read_card
from circuit_claims.discovery.__main__ import main
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
