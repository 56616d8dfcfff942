"""One row of a file of pairs, and how a file is written: the same bytes on every machine."""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple


class Pair(NamedTuple):
    """A clean prompt and its corrupted one, with what answers the clean one, and its foil, which answers the corrupted one.

    Positions are marked in both texts (`The [noun: keys] on`). cluster: what is one observation.
    """

    clean: str
    corrupted: str
    answer: str
    foil: str
    cluster: str


def as_csv(pairs: Iterable[Pair]) -> str:
    """The text of a file of these pairs."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(Pair._fields)
    rows.writerows(pairs)
    return written.getvalue()
