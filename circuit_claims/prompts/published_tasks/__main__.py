"""Write the pairs of all tasks: `python -m circuit_claims.prompts.published_tasks fixtures/pairs`."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from circuit_claims.prompts.published_tasks import (
    docstrings,
    gendered_pronouns,
    subject_verb_agreement,
    two_digit_addition,
)
from circuit_claims.prompts.published_tasks.pair import Pair, as_csv

TASKS: dict[str, Callable[[], Iterable[Pair]]] = {
    "subject_verb_agreement": subject_verb_agreement.pairs,
    "gendered_pronouns": gendered_pronouns.pairs,
    "docstrings": docstrings.pairs,
    "two_digit_addition": two_digit_addition.pairs,
}


def main(folder: Path) -> None:
    """Write a file for each task into a folder that there is."""
    for name, pairs in TASKS.items():
        (folder / f"{name}.csv").write_text(as_csv(pairs()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("give one folder to write to: python -m circuit_claims.prompts.published_tasks fixtures/pairs")
    main(Path(sys.argv[1]))
