"""Names of hub models as users write them: owner/model, owner/model@revision, owner/model:FILE.gguf, and with both.

The short names of well-known models stand for their repositories.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from circuit_claims.models.subject_error import SubjectError

ALIASES = {"gpt2": "openai-community/gpt2"}
MAIN = "main"


@dataclass(frozen=True)
class HubName:
    """A hub model.

    model: as it was written, without what follows; revision: a branch, a tag or a commit; file: one of its files. The last two
    are empty where the name has none.
    """

    model: str
    revision: str = ""
    file: str = ""

    @property
    def hub_id(self) -> str:
        """The repository on the hub."""
        return ALIASES.get(self.model, self.model)

    @property
    def cached_as(self) -> tuple[str, ...]:
        """The names under which the local cache may hold it: `from_pretrained("gpt2")` keeps it under that, the hub under its
        owner's."""
        return tuple(dict.fromkeys((self.hub_id, self.model)))

    def __str__(self) -> str:
        return f"{self.hub_id}@{self.revision}" if self.revision else self.hub_id


def without_revision(name: str) -> str:
    """A subject's name without the revision and the file that a hub model's may end with; a folder's is left as it is."""
    try:
        if Path(os.path.expanduser(name)).exists():
            return name
    except (OSError, ValueError):  # too long for a path
        pass
    return re.split("[@:]", name, maxsplit=1)[0] or name


def read_hub_name(name: str) -> HubName:
    """What a hub model's name says.

    Raises SubjectError where it is not of this form.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    # Neither a branch nor a tag may have a colon.
    before, colon, file = name.partition(":")
    model, at, revision = before.partition("@")
    named = HubName(model, revision, file)
    misspelt = colon and "/" not in model and not _is_gguf(file)  # such as plantd:without-induction
    if misspelt or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", named.hub_id):
        raise SubjectError(
            f"{name!r} is neither a folder nor a hub id: name mini, planted, gpt2, smollm2, owner/model, an existing folder, "
            "or a GGUF file"
        )
    try:
        validate_repo_id(named.hub_id)
    except HFValidationError as error:
        raise SubjectError(
            f"{named.hub_id!r} cannot be a hub id, and there is no folder of that name: check the spelling"
        ) from error
    if at and not (re.fullmatch(r"\w[\w.+/-]*", revision) and _stays_inside(revision)):
        raise SubjectError(f"{revision!r} in {name!r} is no revision: name a branch, a tag or a commit, as owner/model@main")
    if colon and not (_is_gguf(file) and _stays_inside(file)):
        raise SubjectError(f"{file!r} in {name!r} is no GGUF file of that repository: name one as owner/model:FILE.gguf")
    return named


def _is_gguf(file: str) -> bool:
    return file.lower().endswith(".gguf")


def _stays_inside(path: str) -> bool:
    """Whether a path, of which the local cache makes a file, names one inside its folder."""
    return not path.startswith("/") and "\\" not in path and not {"", ".", ".."} & set(path.split("/"))
