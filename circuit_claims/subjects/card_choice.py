"""Which card goes with which subject."""

import os
import re
import shlex
from pathlib import Path

from circuit_claims.cards.card import Card, card_for_model, find_card
from circuit_claims.controls.names import modelled_on
from circuit_claims.models.hub_name import ALIASES, without_revision


def no_card_goes_with(subject: str) -> str:
    """What is to be done about a model that has no card, in one sentence."""
    name = shlex.quote(subject)
    return (
        f"no card goes with {subject!r}: find its own with `make discover SUBJECT={name}` or "
        f"`circuit-claims discover --subject {name}`, or say whose circuit it should have, such as --card gpt2-small"
    )


def card_for(subject: str, card: str | None) -> Card | None:
    """The card that was named, or the one of that model.

    A folder need not be called exactly like a model: `my-gpt2-small-8bit` takes the card of gpt2-small. A model that is
    written by code takes the card of the one it is modelled on. None where none fits.

    Raises CardError where the named card cannot be read.
    """
    if card:
        return find_card(card)
    subject = modelled_on(subject)
    # A card may be of one revision; else that of the model goes with every one of them.
    alone = without_revision(subject)
    for name in dict.fromkeys([subject, ALIASES.get(alone, alone), alone]):
        exact = card_for_model(name)
        if exact is not None:
            return exact
    subject = alone
    parts = re.split(r"[-_. ]", Path(os.path.expanduser(subject)).resolve().name)
    for width in range(len(parts), 0, -1):
        for first in range(len(parts) - width + 1):
            found = card_for_model("-".join(parts[first : first + width]))
            if found is not None:
                return found
    return None
