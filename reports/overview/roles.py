"""Which part of the story of indirect object identification a row belongs to: the role of its heads, or its subject."""

from typing import Any

BEHAVIOUR = "Behaviour"
#: In the order in which they are told: the paper's, from the answer back to the first heads, then the circuit as a whole.
TOPICS = (
    BEHAVIOUR,
    "Name movers",
    "Negative name movers",
    "Backup name movers",
    "S-inhibition heads",
    "Induction heads",
    "Duplicate-token heads",
    "Previous-token heads",
    "The whole circuit",
    "Layers and MLPs",
)

_FAMILIES = {
    "name mover": "Name movers",
    "negative name mover": "Negative name movers",
    "backup name mover": "Backup name movers",
    "S-inhibition": "S-inhibition heads",
    "induction": "Induction heads",
    "duplicate token": "Duplicate-token heads",
    "previous token": "Previous-token heads",
}
_FILES = {
    "behaviour": BEHAVIOUR,
    "extra_sentences": BEHAVIOUR,
    "metamorphic": BEHAVIOUR,
    "role_swaps": BEHAVIOUR,
    "published_prompts": BEHAVIOUR,
    "name_movers": "Name movers",
    "negative_name_movers": "Negative name movers",
    "backups": "Backup name movers",
    "S_inhibition": "S-inhibition heads",
    "faithfulness": "The whole circuit",
    "completeness": "The whole circuit",
    "minimality": "The whole circuit",
    "residual_stream": "Layers and MLPs",
    "mlps": "Layers and MLPs",
}
#: Of files about several roles: whose claim it is by the words in its name; the longer ones come first.
_WORDS = (
    ("negative_name_movers", "Negative name movers"),
    ("duplicate_token", "Duplicate-token heads"),
    ("previous_token", "Previous-token heads"),
    ("S_inhibition", "S-inhibition heads"),
    ("name_movers", "Name movers"),
    ("induction", "Induction heads"),
)


def topic_of(row: dict[str, Any]) -> str:
    """The role or the subject of a row of the chapter `ioi`; of what is none of these, "Other claims"."""
    path, _, parameter = str(row.get("claim_id") or "").partition("[")
    parts = path.split("/")
    file, name = (parts[1], parts[-1]) if len(parts) > 2 else ("", parts[-1])
    if file in _FILES:
        return _FILES[file]
    family = parameter.partition("]")[0]
    for by in ("-mean", "-zero", "-resample"):
        family = family.removesuffix(by)
    if family in _FAMILIES:
        return _FAMILIES[family]
    starts = [(name.find(words), -len(words), topic) for words, topic in _WORDS if words in name]
    return min(starts)[2] if starts else "Other claims"
