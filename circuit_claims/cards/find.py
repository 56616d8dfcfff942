"""Cards that ship with the suite, found by their names or by the models that they list, or any other by its path."""

from functools import lru_cache
from pathlib import Path

from circuit_claims.cards.card import CARD_DIR, Card, CardError, chapter_files, held_against, read_card


def find_card(name: str) -> Card:
    """A card by its name (`gpt2-small`) or by the path of a TOML file.

    Raises CardError where there is none, and says which there are.
    """
    there = ", ".join(sorted(entry.stem for entry in CARD_DIR.glob("*.toml")))
    path = Path(name).expanduser()
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no file"
            raise CardError(
                f"there is {what} at {name!r}: give the path of a card's .toml file, or one of {there}, with --card"
            )
        return held_against(read_card(path))
    path = CARD_DIR / f"{name}.toml"
    if not path.is_file():
        raise CardError(f"there is no card {name!r}: name one of {there}, or the path of your own .toml file, with --card")
    return held_against(_read_again(path))


def card_for_model(model: str) -> Card | None:
    """The card that lists this hub id or name among its models, if one does."""
    for path in sorted(CARD_DIR.glob("*.toml")):
        card = _read_again(path)
        if model in card.models or model == card.name:
            return held_against(card)
    return None


def _read_again(path: Path) -> Card:
    """A card that ships, read anew only where its files have changed: each run looks for its subject's several times."""
    try:
        files = tuple(file.read_bytes() for file in (path, *chapter_files(path)))
    except OSError:
        return read_card(path)  # which says what is wrong
    return _read_once(path, files)


@lru_cache(maxsize=16)
def _read_once(path: Path, files: tuple[bytes, ...]) -> Card:
    return read_card(path)
