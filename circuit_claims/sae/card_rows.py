"""What a card says of sparse autoencoders: many go with one model, so their numbers stand in tables with a row an autoencoder.

A row is called what the autoencoder is called (`mini-sae`, `gpt2-small-res-jb/blocks.8.hook_resid_pre`, or the folder's name);
what is said of its parts, `mini-sae: a name comes next`.
"""

from circuit_claims.cards.bases import of_another
from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import Published
from circuit_claims.sae.loaded import LoadedSae
from circuit_claims.untested import Untested


def published(card: Card, sae: LoadedSae, quantity: str) -> Published:
    """The number that the card has of one autoencoder, in `[tables.sae_<quantity>]` under "value".

    Raises Untested where it has none.
    """
    return for_sae(card.table(f"sae {quantity}")[name_of(sae), "value"], sae)


def for_sae(value: Published, sae: LoadedSae) -> Published:
    """What the card says, as another autoencoder's where a control stands for that one."""
    return of_another(value, f"the SAE {name_of(sae)}") if "stands_for" in sae.facts else value


def name_of(sae: LoadedSae) -> str:
    """What the card calls an autoencoder; a control is put to what is said of the one that it stands for."""
    return sae.facts.get("stands_for", sae.facts["sae"])


def rows_of(card: Card, sae: LoadedSae, table: str) -> list[str]:
    """The names of the rows of a table that are of parts of one autoencoder, without its name.

    Raises Untested where there is no such table, or no such row.
    """
    name = name_of(sae)
    found = [part_of(row, sae) for row in card.table(table).rows if row.startswith(f"{name}: ")]
    if not found:
        raise Untested(f"the card {card.name!r} names nothing of the SAE {name} in [tables.{table.replace(' ', '_')}]: add it")
    return found


def part_of(row: str, sae: LoadedSae) -> str:
    """What of an autoencoder a table's row is about.

    Raises Untested where it is of another one.
    """
    of, _, part = row.partition(": ")
    if of != name_of(sae):
        raise Untested(f"the card says this of the SAE {of}, and the one under test is {name_of(sae)}: name that with --sae")
    return part
