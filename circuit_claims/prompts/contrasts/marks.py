"""Marked positions in a text: `The opposite of [word: hot] is` marks `hot` as `word`.

A mark is `[name: text]`. Brackets that are text are doubled: `x = [[1, 2]]` reads `x = [1, 2]`.
"""

import re
from typing import NamedTuple

#: A mark's name: what operations take as `at=`.
NAME = r"[^\W_][\w +-]*"
#: What a text is read by: doubled brackets, the beginning of a mark, and any bracket besides.
PIECE = re.compile(rf"\[\[|\]\]|\[\s*({NAME}?)\s*:[ \t]?|\[|\]")
#: The common case, of one mark and no other bracket, which is read three times as fast.
ONE_MARK = re.compile(rf"([^\[\]]*)\[\s*({NAME}?)\s*:[ \t]?([^\[\]]*\S[^\[\]]*)\]([^\[\]]*)", re.DOTALL)
#: Roles that every prompt has, and so no names for a mark.
TAKEN = ("END",)


class Mark(NamedTuple):
    """A marked part of a text: its name, its first character, and one past its last."""

    name: str
    begin: int
    end: int


class MarksError(ValueError):
    """The marks in a text do not match; the message says how."""


def read_marks(written: str) -> tuple[str, tuple[Mark, ...]]:
    """The text without its marks, and where they are in it.

    Raises MarksError where brackets do not match, one mark stands in another, is empty, or has a name that is taken.
    """
    if "[" not in written and "]" not in written:
        return written, ()
    if (whole := ONE_MARK.fullmatch(written)) is not None and whole.group(2) not in TAKEN:
        before, name, marked, after = whole.groups()
        return before + marked + after, (Mark(name, len(before), len(before) + len(marked)),)
    text, marks, opened, last = "", [], None, 0
    for found in PIECE.finditer(written):
        text += written[last : found.start()]
        last = found.end()
        piece = found.group()
        if piece in ("[[", "]]"):
            text += piece[0]
        elif piece == "]":
            if opened is None:
                raise MarksError(f"has a ']' that closes no mark: {_doubled(']')}")
            name, begin = opened
            if not text[begin:].strip():
                raise MarksError(f"has a mark {name!r} with nothing in it: write [{name}: some text]")
            marks.append(Mark(name, begin, len(text)))
            opened = None
        elif found.group(1) is None:
            raise MarksError(f"has a '[' that begins no mark: write [name: text], or {_doubled('[')}")
        elif opened is not None:
            raise MarksError(
                f"has a mark {found.group(1)!r} inside the mark {opened[0]!r}: close the one before the other begins"
            )
        else:
            opened = found.group(1), len(text)
    if opened is not None:
        raise MarksError(f"has a mark {opened[0]!r} that is not closed: write [{opened[0]}: text]")
    names = [mark.name for mark in marks]
    for name in names:
        if names.count(name) > 1:
            raise MarksError(f"has two marks of the name {name!r}: give each a name of its own")
        if name in TAKEN:
            raise MarksError(f"has a mark {name!r}, a name that every prompt's last token has: give it another name")
    return text + written[last:], tuple(marks)


def _doubled(bracket: str) -> str:
    return f"double a bracket that is text ({bracket * 2}), or read the pairs with marks=False"
