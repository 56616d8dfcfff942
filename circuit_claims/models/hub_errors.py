"""What can go wrong between here and the hub, each in one sentence.

The hub's client wraps several others' errors, and hands an answer such as 500 on as a file that is not in the cache; so what is
said goes by when an error came and by what the hub answered, not by its class alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from circuit_claims.models.hub_name import HubName
from circuit_claims.models.subject_error import SubjectError, first_line


@contextmanager
def asked_of_the_hub(named: HubName, in_part: str) -> Iterator[None]:
    """Ask the hub what it has.

    in_part: what the local cache's part of it lacks, where it has a part.

    Raises SubjectError where the hub is not reached, or says no.
    """
    from huggingface_hub import constants

    try:
        yield
    except Exception as error:
        _refused_by_the_hub(named, error)
        if isinstance(error, (ValueError, TypeError, KeyError, AssertionError)):
            raise SubjectError(
                f"what answers at {constants.ENDPOINT} is not the hub ({type(error).__name__}): "
                "check HF_ENDPOINT and your proxy"
            ) from error
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else type(error).__name__
        if in_part:
            raise SubjectError(
                f"only a part of {named} is in the local cache ({in_part}), and the hub cannot be reached ({why}): "
                "connect once to finish the download"
            ) from error
        raise SubjectError(
            f"{named} is not in the local cache and the hub cannot be reached ({why}): connect once to download it, "
            "name a local folder, or run with --subject mini"
        ) from error


@contextmanager
def downloaded(named: HubName) -> Iterator[None]:
    """Download files of a model that the hub has said to have.

    Raises SubjectError where they do not come, or cannot be written.
    """
    from huggingface_hub import constants

    try:
        yield
    except SubjectError:
        raise
    except Exception as error:
        _refused_by_the_hub(named, error)
        if isinstance(error, OSError) and error.errno is not None:
            raise SubjectError(
                f"{named} cannot be written to the local cache {constants.HF_HUB_CACHE} ({error.strerror}): "
                "make room there, or set HF_HOME to another folder"
            ) from error
        raise SubjectError(
            f"the download of {named} was cut off ({type(error).__name__}: {first_line(error)}): run again, "
            "and the files that are whole are not fetched again"
        ) from error


def _refused_by_the_hub(named: HubName, error: BaseException) -> None:
    """Raise SubjectError where an error, or what it came from, is an answer of the hub."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    said: BaseException | None = error
    while said is not None and not isinstance(said, HfHubHTTPError):
        said = said.__cause__
    if said is None:
        return
    status = said.response.status_code
    if isinstance(said, GatedRepoError):
        sentence = f"the hub wants you to accept the terms of {named.hub_id}: do so there and log in with `hf auth login`"
    elif isinstance(said, RepositoryNotFoundError):
        sentence = (
            f"the hub has no model {named.hub_id!r}, and there is no folder of that name: check the spelling, "
            "or log in with `hf auth login` if it is a private one"
        )
    elif isinstance(said, RevisionNotFoundError):
        sentence = (
            f"the hub's {named.hub_id} has no revision {named.revision or 'main'!r}: name one of its branches, tags or "
            f"commits, as {named.model}@main"
        )
    elif status in (401, 403):
        sentence = f"the hub refuses access to {named} ({status}): log in anew with `hf auth login`, or name another model"
    else:
        sentence = f"the hub answers with an error when asked for {named} ({status}): try again later"
    raise SubjectError(sentence) from error
