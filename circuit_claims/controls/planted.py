"""`planted`: a model of GPT-2 small's shape written by code, with the IOI circuit in the heads that the paper names.

It is the suite's positive control: what holds of it holds because the circuit is there, and what is refuted of it is either
a number that its construction does not reach or a fault of the instruments. Its parts can be taken out, one at a time.

What the circuit is, and in which subspaces of the residual stream it works, stands in `circuit_claims.controls.plan`; how it
becomes weights, in `circuit_claims.controls.construction`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from circuit_claims.controls.plan import NAME_MOVERS, Plan, plan
from circuit_claims.controls.sources import source_of
from circuit_claims.heads import Head
from circuit_claims.models.disk_cache import fingerprint, kept

WRITTEN_BY = ("plan.py", "spherical_codes.py", "planted.py", "vocabulary.py", "construction.py")

#: Where the name movers stand in `name-movers-moved`: heads of the same layers that otherwise have no job.
MOVED_TO: dict[Head, Head] = {Head(9, 9): Head(9, 3), Head(9, 6): Head(9, 11), Head(10, 0): Head(10, 5)}


class Mutilation(NamedTuple):
    """One part taken out or put elsewhere: what is done to the plan, in words too, and what the card says falsely then.

    families: the card's families whose claims must fall: of the heads themselves, and of those that depend on them.
    """

    change: Callable[[Plan], Plan]
    what: str
    families: tuple[str, ...]


def _without(family: str) -> Callable[[Plan], Plan]:
    return lambda jobs: {head: job for head, job in jobs.items() if job.family != family}


def _moved(jobs: Plan) -> Plan:
    return {MOVED_TO.get(head, head): job for head, job in jobs.items()}


MUTILATIONS: dict[str, Mutilation] = {
    "without-S-inhibition": Mutilation(
        _without("S-inhibition"),
        "nothing tells the movers which name is not the answer: both names are said alike",
        ("S-inhibition", "induction", "duplicate token", "previous token", "name mover"),
    ),
    "without-induction": Mutilation(
        _without("induction"),
        "half of what S2 knows of S1 is gone, and nobody reads what previous-token heads write",
        ("induction", "previous token"),
    ),
    "without-duplicate-token": Mutilation(
        _without("duplicate token"),
        "half of what S2 knows of S1 is gone, the induction heads' half is left",
        ("duplicate token",),
    ),
    "without-previous-token": Mutilation(
        _without("previous token"),
        "induction heads have one other head left to tell them what stood before",
        ("previous token",),
    ),
    "without-negative": Mutilation(
        _without("negative"), "nothing writes against the answer: the logit difference rises", ("negative name mover",)
    ),
    "without-backups": Mutilation(
        _without("backup"), "nobody takes over when the name movers are knocked out", ("backup name mover",)
    ),
    "name-movers-moved": Mutilation(
        _moved, "the name movers' weights stand at other heads of the same layers: the behaviour is the same", ("name mover",)
    ),
}
assert set(MOVED_TO) == set(NAME_MOVERS)


def planted_folder(mutilation: str = "") -> Path:
    """The folder of the planted model, whole or with one of `MUTILATIONS`; written where the cache does not hold it.

    Raises KeyError for an unknown mutilation.
    """
    change = MUTILATIONS[mutilation].change if mutilation else None
    name = f"planted-{mutilation}-" if mutilation else "planted-"

    def write(folder: Path) -> None:
        from circuit_claims.controls.construction import planted_weights
        from circuit_claims.controls.saving import save_gpt2

        save_gpt2(folder, planted_weights(change(plan()) if change else plan()))

    return kept(name + version(), write)


def version() -> str:
    """Changes with the code that writes the model, and with the words of the prompts."""
    from circuit_claims.controls.vocabulary import words

    return fingerprint(source_of(WRITTEN_BY), " ".join(words()))
