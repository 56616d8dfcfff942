"""A card that discovery wrote may be written over, whatever the command was called when it was found."""

import pytest

from circuit_claims.discovery.card_text import SIGNATURE, SIGNATURES, NotOurs, refuse_to_overwrite


@pytest.mark.parametrize("command", ["circuit-claims discover", "python -m circuit_claims.discovery", "python -m discovery"])
def test_cards_of_every_age_are_ours(tmp_path, command):
    path = tmp_path / "card.toml"
    path.write_text(f"# Found by `{command}` with this suite's sweeps\n")
    refuse_to_overwrite(path)


@pytest.mark.parametrize("text", ["title = 'mine'\n", "# Found by a person\n", "\n# Found by `circuit-claims discover`\n", ""])
def test_any_other_file_is_somebody_elses(tmp_path, text):
    path = tmp_path / "card.toml"
    path.write_text(text)
    with pytest.raises(NotOurs):
        refuse_to_overwrite(path)


def test_cards_are_signed_by_the_command_as_it_is_called_now():
    assert SIGNATURES[0] == SIGNATURE and "circuit-claims discover" in SIGNATURE
