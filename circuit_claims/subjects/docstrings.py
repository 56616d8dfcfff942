"""Whether Python has kept docstrings: transformers cannot do without its own."""

import sys

from circuit_claims.models.subject_error import SubjectError


def refuse_stripped_docstrings() -> None:
    """Raises SubjectError under `python -OO`, with one sentence; nothing slow is imported for it."""
    if sys.flags.optimize > 1:
        raise SubjectError(
            "transformers reads its own docstrings, which PYTHONOPTIMIZE=2 (or python -OO) takes away: set it to 1 or less"
        )
