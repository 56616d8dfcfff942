"""Which card goes with which subject."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

from circuit_claims.cards.card import NONE, Card, held_against
from circuit_claims.cards.find import card_for_model, find_card
from circuit_claims.controls.names import modelled_on
from circuit_claims.models.hub_name import ALIASES, without_revision

#: What config.json calls the layers, and the heads of one: each architecture has names of its own.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")


def no_card(subject: str, given: str | None = None) -> str:
    """Why a run has no card, and what to do about it, in one sentence; given: what was said with --card."""
    how = f"`circuit-claims discover --subject {shlex.quote(subject)}`"
    if given == NONE:
        return f"this run is without a card (--card none): name one with --card, or find the subject's own with {how}"
    return f"no card goes with {subject}: find its own with {how}, or say with --card whose circuit it should have"


def card_for(subject: str, card: str | None) -> Card | None:
    """The card that was named, or the one of that model, with the basis of each number on it for this subject.

    A folder need not be called exactly like a model: `my-gpt2-small-8bit` takes the card of gpt2-small, unless its config.json
    has another number of layers or heads. A model that is written by code takes the card of the one it is modelled on. None
    where none fits, and where none was asked for.

    Raises CardError where the named card cannot be read.
    """
    found = _card_for(subject, card)
    return found and held_against(found, of_another=not is_of(found, subject))


def is_of(card: Card, subject: str) -> bool:
    """Whether a card is of this very model: it lists the subject among its models.

    Published numbers are of a hub model in any revision, not of a copy in a folder, a quantised file or a control, which can be
    anything. A measured card lists a folder or a file by its name without the path.
    """
    names = {subject, ALIASES.get(subject, subject)}
    path = Path(os.path.expanduser(subject))
    if _is_there(path):
        names = {path.resolve().name, path.stem} if card.measured else set()
    elif ":" not in subject:
        alone = without_revision(subject)
        names |= {alone, ALIASES.get(alone, alone)}
    return not names.isdisjoint(card.models)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path
        return False


def _card_for(subject: str, card: str | None) -> Card | None:
    if card == NONE:
        return None
    if card:
        return find_card(card)
    subject = modelled_on(subject)
    # A card may be of one revision; else that of the model goes with every one of them.
    alone = without_revision(subject)
    for name in dict.fromkeys([subject, ALIASES.get(alone, alone), alone]):
        exact = card_for_model(name)
        if exact is not None:
            return exact
    folder = Path(os.path.expanduser(alone))
    parts = re.split(r"[-_. ]", folder.resolve().name)
    for width in range(len(parts), 0, -1):
        for first in range(len(parts) - width + 1):
            found = card_for_model("-".join(parts[first : first + width]))
            if found is not None and _may_have_the_shape_of(found, folder):
                return found
    return None


def _may_have_the_shape_of(card: Card, folder: Path) -> bool:
    """Whether nothing in a folder's config.json says that it has other layers or heads than the card."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # what is wrong with it is told when the model is looked for
        return True
    if not isinstance(config, dict):
        return True
    within = config.get("text_config")
    tables = [config, *([within] if isinstance(within, dict) else [])]
    for names, expected in ((_LAYERS, card.n_layers), (_HEADS, card.n_heads)):
        said = [table[name] for table in tables for name in names if name in table]
        if said and expected not in said:
            return False
    return True
