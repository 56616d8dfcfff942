"""Find a model's card: sweep the model, propose families of heads with the evidence, measure every value that claims ask for.

    circuit-claims discover --subject path/to/my-model
    circuit-claims run -k ioi --subject path/to/my-model --card my-model-card.toml

All of it is measured on the discovery half of the name pairs; claims are judged on the other half. What is written is to be
reviewed: it says what the rules found, not what is true.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from circuit_claims.option_checks import BOS, BOS_SPELLINGS, FEWEST_PROMPTS, contradiction, wrong_seed

ONE_VALUE = tuple("--subject --out --title --prompts --chapters --seed --device --dtype --weights --names --bos".split())
#: Of what is embedded in this project; any other model is called what its folder is called.
TITLES = {"mini": "mini, the embedded model"}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="circuit-claims discover", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--subject", required=True, metavar="NAME", help="as for pytest: mini, gpt2, another hub id, a folder, or a GGUF file")
    add("--out", default="", metavar="FILE", help="the card to write (<the subject's name>-card.toml in this folder)")
    add("--title", default="", help="of the card (the subject's name)")
    add("--prompts", type=int, default=960, metavar="N", help=f"to measure on (960), at least {FEWEST_PROMPTS}")
    add("--chapters", default="", metavar="A,B", help="which chapters besides the IOI circuit to look for (all)")
    add("--seed", type=int, default=0, help="of the prompts (0)")
    add("--force", action="store_true", help="overwrite FILE even where discovery did not write it")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"], help="of the weights (float32)")
    add("--weights", default="processed", choices=["raw", "processed"], help="as for pytest (processed)")
    add("--names", metavar="FILE", help="first names to use in the prompts, one a line")
    add("--drop-names", action="store_true", help="of no effect any more: names that are not one token are left out anyway")
    add("--bos", default="auto", choices=list(BOS), help="whether prompts begin with BOS (as the tokenizer does)")
    add("--prepend-bos", action="store_const", dest="bos", const="yes", help="the same as --bos yes")
    add("--no-prepend-bos", action="store_const", dest="bos", const="no", help="the same as --bos no")
    given = sys.argv[1:] if given is None else given
    args = parser.parse_args(given)
    if twice := contradiction(given, ONE_VALUE, BOS_SPELLINGS):
        parser.error(twice)
    return args


class Steps(AbstractContextManager["Steps"]):
    """A bar with the running step's name where standard error is a terminal, and nothing where it is none."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn())
        self._bar = Progress(*columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=len(self._names))

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(self, failed: Any, *_: Any) -> None:
        if failed is None:
            self._bar.update(self._task, completed=len(self._names), description="")
        self._bar.stop()

    def at(self, name: str) -> None:
        """This step begins: all before it are done."""
        self._bar.update(self._task, completed=self._names.index(name), description=name)


def main(given: Sequence[str] | None = None) -> None:
    """Find the card and write it; exit status 2, after one sentence, where that cannot be done."""
    args = arguments(given)
    if args.prompts < FEWEST_PROMPTS:
        _refuse(f"--prompts must be at least {FEWEST_PROMPTS}: intervals from fewer miss the truth more often than they say")
    if wrong := wrong_seed(args.seed):
        _refuse(wrong)
    # Everything that loads a model is imported here, so that --help and a refusal cost no seconds.
    from circuit_claims.cards.card import CardError
    from circuit_claims.discovery.card_text import NotOurs
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.untested import Untested

    try:
        _discover(args)
    except (SubjectError, NotOurs, CardError) as error:
        _refuse(str(error))
    except Untested as error:
        _refuse(str(error) or "the subject cannot be measured")
    except FloatingPointError as error:
        _refuse(f"{error}: there is nothing to measure in such a model, unless it is its --dtype that overflows")


def _discover(args: argparse.Namespace) -> None:
    from circuit_claims.cards.card import NONE, Card
    from circuit_claims.cards.settings import CardSettings, names_in_short
    from circuit_claims.discovery import card_text, chapters, families, tables, values
    from circuit_claims.discovery.findings import without_empty_bounds
    from circuit_claims.discovery.survey import Survey
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.subjects.find import choose
    from circuit_claims.subjects.subject import Settings, Subject, prepare, versions
    from circuit_claims.threads import use_few_threads

    settings = Settings(
        name=choose(args.subject)[0],
        card=NONE,
        device=args.device,
        dtype=args.dtype,
        mode=args.weights,
        prepend_bos=BOS[args.bos],
        names_file=args.names,
    )
    prepared = prepare(settings)
    name = prepared.folder.name
    path = Path(args.out or f"{_as_file_name(name)}-card.toml").expanduser().resolve()
    if not args.force:
        card_text.refuse_to_overwrite(path)
    if path.is_dir() or not path.parent.is_dir():
        raise SubjectError(f"{path} cannot be written, since it is a folder or in none: name a file with --out")
    if prepared.about_names:
        print(prepared.about_names, file=sys.stderr)
    use_few_threads(prepared.folder.n_parameters)
    subject = Subject(prepared)
    model = subject.transformer
    survey = Survey.of(subject, n=args.prompts, seed=args.seed, prepend_bos=subject.prepend_bos)
    try:
        survey.ioi.prompts(args.prompts)
    except ValueError as error:
        raise SubjectError(str(error)) from error
    parts = values.PARTS | tables.PARTS
    bos = "with BOS" if subject.prepend_bos else "without BOS"
    source = f"circuit-claims discover: {args.prompts} prompts of the discovery half, seed {args.seed}, {bos}, "
    source += f"{args.weights} weights"
    names = args.chapters.split(",") if args.chapters else chapters.names()
    if unknown := sorted(set(names) - set(chapters.names())):
        raise SubjectError(f"there is no chapter {unknown[0]!r}: name some of {', '.join(chapters.names())} with --chapters")
    for chapter in names:
        if not args.force:
            card_text.refuse_to_overwrite(path.with_suffix("") / f"{chapter}.toml")
    shape = (model.n_layers, model.n_heads)
    with Steps([*families.STEPS, *parts, *names]) as steps:
        found = families.find(survey, steps.at)
        title = args.title or TITLES.get(settings.name, name)
        blank = Card(name, title, (name,), model.n_layers, model.n_heads, families={}, values={})
        card = families.circuit_card(blank, found, source)
        findings = {}
        for step, part in parts.items():
            steps.at(step)
            findings[step] = without_empty_bounds(part(survey, card), shape)
        beside = {}
        for chapter in names:
            steps.at(chapter)
            there = chapters.find(chapter, survey, card)
            kept = {part: without_empty_bounds(of_part, shape) for part, of_part in there.findings.items()}
            beside[chapter] = replace(there, findings=kept)
    measured_with = CardSettings(
        subject.prepend_bos, args.weights, args.dtype, names_in_short(subject.names), args.prompts, args.seed
    )
    provenance = f"weights {subject.weights_sha256}, torch {versions()['torch']}, {args.dtype}"
    written = card_text.card_text(
        title=title,
        models=[name],
        shape=shape,
        found=found,
        findings=findings,
        source=source,
        provenance=provenance,
        settings=measured_with,
    )
    texts = {
        chapter: card_text.chapter_text(
            title=f"{title}, {chapter}",
            found=it.families,
            findings=it.findings,
            source=source,
            provenance=provenance,
            settings=it.settings,
        )
        for chapter, it in beside.items()
    }
    try:
        card_text.write(path, written, texts)
    except OSError as error:
        raise SubjectError(f"{path} cannot be written ({error.strerror}): name another file with --out") from error
    args.subject = settings.name
    _summarise(survey, found, args, path)


def _summarise(survey: Any, found: dict[str, Any], args: argparse.Namespace, path: Path) -> None:
    """What was found, where it stands, and what to do next."""
    unclear = "" if survey.shows_the_task else ": the model does not do the task, and no effects were sought"
    lines = [f"logit difference {survey.logit_difference:.2f}{unclear}"]
    for name, family in found.items():
        if not name.startswith("validated"):
            role = " (not in the circuit)" if family.note else ""
            lines.append(f"{name} at {family.position}{role}: {', '.join(map(str, family.heads))}")
    if not found:
        lines.append("no family found: no head of this model meets the rules")
    shown = _shown(path)
    given = {"--weights": (args.weights, "processed"), "--dtype": (args.dtype, "float32"), "--names": (args.names, None)}
    options = [part for option, (value, default) in given.items() if value != default for part in (option, value)]
    options += ["--bos", args.bos] * (args.bos != "auto")
    command = shlex.join(["circuit-claims", "run", "-k", "ioi", "--subject", args.subject, "--card", shown, *options])
    print(*lines, f"card to review: {shown}", f"next: {command}", sep="\n")


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _as_file_name(name: str) -> str:
    """The last part of a hub id or a folder's name, without what a shell or a file system might stumble over."""
    return re.sub(r"[^\w.-]+", "-", name.rsplit("/", 1)[-1]).strip("-.") or "model"


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
