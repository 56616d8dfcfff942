"""What a search ends with on the terminal: what was found, what is missing, where it stands, and what to do next."""

import argparse
import shlex
from pathlib import Path

from circuit_claims.discovery import family_search
from circuit_claims.discovery.missing_families import OF_THE_LITERATURE
from circuit_claims.discovery.search import Search, steps

#: Options of which a run that judges the card should know, with what they are where nothing is said.
_SHARED = {"--weights": "processed", "--dtype": "float32", "--names": None}
#: Further options of the search itself.
_OWN = {"--title": "", "--prompts": 960, "--chapters": "", "--seed": 0, "--device": "auto"}


def summary(search: Search, args: argparse.Namespace, stopped: str) -> list[str]:
    """The lines; stopped: why the search ended before it was done, empty where it was done."""
    missing, found, survey = search.missing(), search.families(), search.survey
    lines = [f"{stopped}: {len(missing)} of {len(steps(search.chapters))} steps are missing"] if stopped and missing else []
    if (task := survey.task_so_far) is not None:
        unclear = "" if task[1] else ": the model does not do the task, and no effects were sought"
        lines.append(f"logit difference {task[0]:.2f}{unclear}")
    here = [name for name in OF_THE_LITERATURE if name in found]
    if here:
        lines.append(f"{len(here)} of the {len(OF_THE_LITERATURE)} families of the literature are here: {', '.join(here)}")
    for name, family in found.items():
        if not name.startswith("validated"):
            role = " (not in the circuit)" if family.note else ""
            lines.append(f"{name} at {family.position}{role}: {', '.join(map(str, family.heads))}")
    if not found:
        whole = not set(missing) & set(family_search.STEPS)
        lines.append("no family found" + (": no head of this model meets the rules" if whole else " so far"))
    lines += search.lacking()
    card = shown(search.unfinished if missing else search.path)
    if missing:
        lines += [f"missing: {', '.join(missing)}", f"unfinished card: {card}"]
        return [*lines, f"to go on: {_command(search, args)}"]
    options = [*_given(args, _SHARED), *["--bos", args.bos] * (args.bos != "auto")]
    command = shlex.join(["circuit-claims", "run", "-k", "ioi", "--subject", args.subject, "--card", card, *options])
    return [*lines, f"card to review: {card}", f"next: {command}"]


def _command(search: Search, args: argparse.Namespace) -> str:
    """The command that takes the search up again."""
    options = [*_given(args, _OWN | _SHARED), *["--bos", args.bos] * (args.bos != "auto")]
    return shlex.join(["circuit-claims", "discover", "--subject", args.subject, "--out", shown(search.path), *options])


def _given(args: argparse.Namespace, options: dict[str, object]) -> list[str]:
    values = {option: getattr(args, option.removeprefix("--")) for option in options}
    return [part for option, value in values.items() if value != options[option] for part in (option, str(value))]


def shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
