"""Where the data that come with the project lie: cards, embedded models, the latest audit."""

from importlib.util import find_spec
from pathlib import Path


def embedded(*parts: str) -> Path:
    """A file or folder of `circuit_claims.fixtures`, which a checkout has in another place than an installed wheel.

    Raises ModuleNotFoundError where the project is not installed.
    """
    spec = find_spec("circuit_claims.fixtures")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("circuit_claims.fixtures is not installed: run `pip install -e .` in the project's folder")
    return Path(spec.origin).parent.joinpath(*parts)


def suite_folder() -> Path:
    """Where the claims themselves lie: `claims` in a checkout, `circuit_claims/claims` in an installed wheel."""
    return embedded().parent / "claims"


def checkout() -> Path | None:
    """The repository, where the project runs from one; None where a wheel is installed."""
    root = embedded().parent
    return root if (root / "circuit_claims").is_dir() else None
