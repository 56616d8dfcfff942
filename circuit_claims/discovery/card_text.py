"""A card as TOML: what was found, with the evidence as comments, the rules as notes, and where the numbers come from."""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from circuit_claims.cards.card import CARD_DIR, MEASURED, CardError, chapter_files, read_card
from circuit_claims.cards.settings import CardSettings
from circuit_claims.discovery.families import Found
from circuit_claims.discovery.findings import Findings

SIGNATURE = "# Found by `circuit-claims discover`"
#: How every card begins that discovery wrote, now or before: a file that begins otherwise is somebody else's.
SIGNATURES = (SIGNATURE, "# Found by `python -m circuit_claims.discovery`", "# Found by `python -m discovery`")
#: From here on to its end, a card is a person's own, and is kept when it is found anew.
TAIL = "# What is known"
_TAIL = rf"^{re.escape(TAIL)}"
#: What a card that discovery wrote begins with.
HEAD = (
    f"{SIGNATURE} with this suite's sweeps, on the discovery half of the name pairs; claims are judged on",
    "# the other. The rules for families stand in circuit_claims/discovery/families.py, for tolerances in findings.py.",
    f"# What stands from a line on that begins with `{TAIL}` is kept when the card is found anew; the rest is not.",
)
#: The embedded model's card, which may be found anew whoever wrote it.
EMBEDDED_CARD = CARD_DIR / "mini.toml"
EMBEDDED_CHAPTERS = CARD_DIR / "mini"


class NotOurs(ValueError):
    """The file that would be overwritten is not a card that discovery wrote; the message is one sentence for the user."""


def card_text(
    *,
    title: str,
    models: Sequence[str],
    shape: tuple[int, int],
    found: Mapping[str, Found],
    findings: Mapping[str, Findings | str],
    source: str,
    provenance: str,
    settings: CardSettings,
    lacking: Sequence[str] = (),
    unfinished: str = "",
    head: Sequence[str] = HEAD,
) -> str:
    """The card.

    findings: by the name of the part that they belong to, or the part's text where it is that of an unfinished card. source:
    what every entry names; provenance: which weights and versions, in a comment. settings: how all of it was measured.
    lacking: which families the model has not, a comment each. unfinished: the table of what is missing, of a card that is.
    head: the comments that it begins with, which say how it was found.
    """
    lines = [
        *head,
        comment(provenance),
        f"title = {text(title)}",
        f"models = [{', '.join(map(text, models))}]",
        f"basis = {text(MEASURED)}",
        *_settings(settings),
        "",
        "[shape]",
        f"layers = {shape[0]}",
        f"heads = {shape[1]}",
    ]
    lines += _families(found, source)
    if not found and not unfinished:
        lines += ["", "# No head meets the rule of any family: this card is the model's shape and behaviour."]
    lines += ["", *map(comment, lacking)] if lacking else []
    for part, numbers in findings.items():
        there = part_text(part, numbers, source) if isinstance(numbers, Findings) else numbers
        lines += ["", there] if there else []
    return "\n".join(lines) + "\n" + unfinished


def chapter_text(
    *,
    title: str,
    found: Mapping[str, Found],
    findings: Mapping[str, Findings],
    source: str,
    provenance: str,
    settings: CardSettings,
) -> str:
    """A further chapter of a card, with the arguments of `card_text`; `settings` are what its own prompts fix."""
    lines = [f"{SIGNATURE}: {title}.", f"# What stands from a line on that begins with `{TAIL}` is kept.", comment(provenance)]
    lines += _settings(settings)
    lines += _families(found, source)
    for part, numbers in findings.items():
        there = part_text(part, numbers, source)
        lines += ["", there] if there else []
    return "\n".join(lines) + "\n"


def _settings(settings: CardSettings) -> list[str]:
    """[settings], with a line for each that is known; nothing where none is."""
    lines = []
    for name, value in asdict(settings).items():
        if value is not None:
            lines.append(f"{name} = {text(value) if isinstance(value, str) else json.dumps(value)}")
    return ["", "[settings]", *lines] if lines else []


def _families(found: Mapping[str, Found], source: str) -> list[str]:
    lines = []
    for name, family in found.items():
        lines += ["", f"[families.{key(name.replace(' ', '_'))}]", comment(family.rule)]
        lines += [comment(f"{head}: {family.evidence.get(head, '')}") for head in family.heads]
        lines += [f"heads = [{', '.join(text(str(head)) for head in family.heads)}]", f"position = {text(family.position)}"]
        lines += ["role_only = true", f"note = {text(family.note)}"] if family.note else []
        lines.append(f"source = {text(source)}")
    return lines


def part_head(part: str) -> str:
    """The line that a part of a card begins with."""
    return comment(f"{part[0].upper()}{part[1:]}.")


def part_text(part: str, findings: Findings, source: str) -> str:
    """The values and tables of one part, and what it left out; empty where that is nothing."""
    lines = []
    for name, value in findings.values.items():
        lines += ["", f"[values.{key(name)}]", f"value = {number(value.value)}"]
        ends = {"within": value.within, "low": value.low, "high": value.high}
        lines += [f"{end} = {number(at)}" for end, at in ends.items() if at is not None]
        lines += [f"unit = {text(value.unit)}", *_note(value.note), f"source = {text(source)}"]
    for name, table in findings.tables.items():
        lines += ["", f"[tables.{key(name)}]", f"columns = [{', '.join(map(text, table.columns))}]"]
        lines += [] if table.within is None else [f"within = {number(table.within)}"]
        lines += [f"unit = {text(table.unit)}", *_note(table.note)]
        lines += [f"source = {text(source)}", f"[tables.{key(name)}.rows]"]
        lines += [f"{text(row)} = [{', '.join(map(number, numbers))}]" for row, numbers in table.rows.items()]
    if findings.left_out:
        lines += ["", *(comment(f"Left out, {name}: {why}") for name, why in findings.left_out.items())]
    return "\n".join([part_head(part), *lines]) if lines else ""


def text(value: str) -> str:
    """A string as TOML writes it: JSON's escapes are among TOML's, but for the one control character that JSON allows."""
    sound = value.encode("utf-8", "replace").decode("utf-8")  # a file's name may hold bytes that are no text
    return json.dumps(sound, ensure_ascii=False).replace("\x7f", "\\u007f")


def key(name: str) -> str:
    """A key, in quotes where TOML wants them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else text(name)


def number(value: float) -> str:
    """A number; TOML's infinities are no number that a card may have.

    Raises FloatingPointError for these, and for what is none.
    """
    if not math.isfinite(value):
        raise FloatingPointError(f"a number that was found is {value}")
    return str(value) if isinstance(value, int) else repr(float(value))


def comment(words: str) -> str:
    """A comment of one line, whatever is in the words."""
    return "# " + " ".join("".join(c if c.isprintable() else " " for c in words).split())


def refuse_to_overwrite(path: Path) -> None:
    """Raise NotOurs where there is something at `path` that discovery did not write."""
    embedded = path.resolve() == EMBEDDED_CARD.resolve() or path.resolve().parent == EMBEDDED_CHAPTERS.resolve()
    if not path.exists() or embedded:
        return
    try:
        ours = path.is_file() and path.read_text(encoding="utf-8-sig").startswith(SIGNATURES)
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise NotOurs(f"{path} is there and is no card that discovery wrote: name another file with --out, or say --force")


def write(path: Path, card: str, chapters: Mapping[str, str] | None = None) -> None:
    """Write the card and its chapters, with what a person wrote at the end of those that were there: whole, or not at all.

    chapters: texts by name, each written beside the card; chapters that are not among them stay as they are.

    Raises CardError where what is written would not be read back, and OSError where it cannot be written.
    """
    folder = path.with_suffix("")
    texts = {path.name: card + _tail(path)}
    texts |= {f"{folder.name}/{name}.toml": text + _tail(folder / f"{name}.toml") for name, text in (chapters or {}).items()}
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
        tried = Path(beside)
        (tried / folder.name).mkdir()
        for there in chapter_files(path):
            shutil.copy(there, tried / folder.name)
        for name, whole in texts.items():
            (tried / name).write_text(whole, encoding="utf-8")
        try:
            read_card(tried / path.name)
        except CardError as error:
            told = str(error).replace(beside, str(path.parent))
            raise CardError(f"{told} (the card that was there is as it was)" if path.exists() else told) from error
        if chapters:
            folder.mkdir(exist_ok=True)
        for name in [*list(texts)[1:], path.name]:  # the card last, since it says which chapters there are
            os.replace(tried / name, path.parent / name)


def without_tail(card: str) -> str:
    """A card's text up to where a person's own begins."""
    found = re.search(_TAIL, card, re.MULTILINE)
    return card[: found.start()].removesuffix("\n") if found else card


def _tail(path: Path) -> str:
    """What a person wrote at the end of a card, to be put behind the new one."""
    try:
        before = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(_TAIL, before, re.MULTILINE)
    return "\n" + before[found.start() :] if found else ""


def _note(note: str) -> list[str]:
    return [f"note = {text(note)}"] if note else []
