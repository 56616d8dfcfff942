"""Find a model's card: sweep the model, propose families of heads with the evidence, measure every value that claims ask for.

    circuit-claims discover --subject path/to/my-model
    circuit-claims run -k ioi --subject path/to/my-model --card my-model-card.toml

All of it is measured on the discovery half of the name pairs; claims are judged on the other half. What is written is to be
reviewed: it says what the rules found, not what is true. What was found is written after every step; stopped, by Ctrl-C or by
--minutes, the search leaves an unfinished card, and the same command takes it up again.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from circuit_claims import __version__
from circuit_claims.discovery.progress import Steps
from circuit_claims.discovery.time_limit import OutOfTime, TimeLimit, in_words
from circuit_claims.model_options import add_bos, add_loading
from circuit_claims.option_checks import BOS, BOS_SPELLINGS, FEWEST_PROMPTS, contradiction, wrong_seed

if TYPE_CHECKING:  # slow to import
    from circuit_claims.discovery.search import Search

ONE_VALUE = tuple(
    "--subject --out --title --prompts --minutes --chapters --seed --device --dtype --weights --names --bos".split()
)
#: Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130
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
    add("--minutes", type=float, metavar="N", help="to stop after, with an unfinished card of what was found (no limit)")
    add("--chapters", default="", metavar="A,B", help="which chapters besides the IOI circuit to look for (all)")
    add("--seed", type=int, default=0, help="of the prompts (0)")
    add("--force", action="store_true", help="overwrite FILE even where discovery did not write it")
    add_loading(parser)
    add("--names", metavar="FILE", help="first names to use in the prompts, one a line")
    add("--drop-names", action="store_true", help="of no effect any more: names that are not one token are left out anyway")
    add_bos(parser)
    given = sys.argv[1:] if given is None else given
    args = parser.parse_args(given)
    if twice := contradiction(given, ONE_VALUE, BOS_SPELLINGS):
        parser.error(twice)
    return args


def main(given: Sequence[str] | None = None) -> None:
    """Find the card and write it; exit status 2, after one sentence, where that cannot be done."""
    args = arguments(given)
    if args.prompts < FEWEST_PROMPTS:
        _refuse(f"--prompts must be at least {FEWEST_PROMPTS}: intervals from fewer miss the truth more often than they say")
    if wrong := wrong_seed(args.seed):
        _refuse(wrong)
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        _refuse("--minutes must be a number above 0: nothing can be found in less; leave it out for no limit")
    limit = TimeLimit(args.minutes)
    # Everything that loads a model is imported here, so that --help and a refusal cost no seconds.
    from circuit_claims.cards.card import CardError
    from circuit_claims.discovery.card_text import NotOurs
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.untested import Untested

    try:
        try:
            search = _prepared(args)
        except KeyboardInterrupt:
            print("interrupted before anything was measured: nothing is written", file=sys.stderr)
            sys.exit(INTERRUPTED)
        _run(search, args, limit)
    except (SubjectError, NotOurs, CardError) as error:
        _refuse(str(error))
    except Untested as error:
        _refuse(str(error) or "the subject cannot be measured")
    except FloatingPointError as error:
        _refuse(f"{error}: there is nothing to measure in such a model, unless it is its --dtype that overflows")


def _run(search: "Search", args: argparse.Namespace, limit: TimeLimit) -> None:
    """The search, and what was found; exit status 130 after Ctrl-C."""
    from circuit_claims import forward_passes
    from circuit_claims.discovery.search import steps
    from circuit_claims.discovery.summary import summary
    from circuit_claims.models.subject_error import SubjectError

    stopped, status = "", 0
    try:
        try:
            with Steps(steps(search.chapters), lambda: limit.seconds) as shown, forward_passes.watched(limit.check):

                def at(step: str) -> None:
                    limit.check()
                    shown.at(step)

                search.run(at)
        except KeyboardInterrupt:
            stopped, status = "interrupted", INTERRUPTED
        except OutOfTime:
            stopped = f"stopped after {in_words(args.minutes)}"
        search.write()
    except OSError as error:
        raise SubjectError(f"{search.path} cannot be written ({error.strerror}): name another file with --out") from error
    print(*summary(search, args, stopped), sep="\n")
    if status:
        sys.exit(status)


def _prepared(args: argparse.Namespace) -> "Search":
    """The search, with what is taken over from an unfinished card; the model is loaded."""
    from circuit_claims.cards.card import NONE
    from circuit_claims.cards.settings import CardSettings, names_in_short
    from circuit_claims.discovery import card_text, chapters, unfinished
    from circuit_claims.discovery.search import About, Search
    from circuit_claims.discovery.summary import shown
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
    if path.is_dir() or not path.parent.is_dir():
        raise SubjectError(f"{path} cannot be written, since it is a folder or in none: name a file with --out")
    names = tuple(args.chapters.split(",")) if args.chapters else tuple(chapters.names())
    if unknown := sorted(set(names) - set(chapters.names())):
        raise SubjectError(f"there is no chapter {unknown[0]!r}: name some of {', '.join(chapters.names())} with --chapters")
    there = unfinished.place(path)
    if not args.force:
        for file in dict.fromkeys([path, there]):
            for one in (file, *(file.with_suffix("") / f"{chapter}.toml" for chapter in names)):
                card_text.refuse_to_overwrite(one)
    if prepared.about_names:
        print(prepared.about_names, file=sys.stderr)
    use_few_threads(prepared.folder.n_parameters)
    subject = Subject(prepared)
    _ = subject.transformer  # raises Untested where interventions do not know its architecture
    survey = Survey.of(subject, n=args.prompts, seed=args.seed, prepend_bos=subject.prepend_bos)
    try:
        survey.ioi.prompts(args.prompts)
    except ValueError as error:
        raise SubjectError(str(error)) from error
    bos = "with BOS" if subject.prepend_bos else "without BOS"
    source = f"circuit-claims discover: {survey.up_to()} prompts of the discovery half, seed {args.seed}, {bos}"
    in_short, sha256 = names_in_short(subject.names), subject.weights_sha256
    about = About(
        title=args.title or TITLES.get(settings.name, name),
        models=(name,),
        source=f"{source}, {args.weights} weights",
        provenance=f"weights {sha256}, torch {versions()['torch']}, {args.dtype}",
        versions=f"circuit-claims {__version__}, torch {versions()['torch']}",
        settings=CardSettings(subject.prepend_bos, args.weights, args.dtype, in_short, args.prompts, args.seed, sha256),
    )
    done, anew = unfinished.take_over(there, about.settings, about.versions)
    if anew:
        print(anew, file=sys.stderr)
    elif len(done):
        print(f"taken over from {shown(there)}: {', '.join(done.names())}", file=sys.stderr)
    args.subject = settings.name
    return Search(replace(survey, known=done.known), path, there, about, names, done)


def _as_file_name(name: str) -> str:
    """The last part of a hub id or a folder's name, without what a shell or a file system might stumble over."""
    return re.sub(r"[^\w.-]+", "-", name.rsplit("/", 1)[-1]).strip("-.") or "model"


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
