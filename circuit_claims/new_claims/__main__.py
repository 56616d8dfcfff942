"""From pairs of prompts to claims: a folder with a task, a card of what a short sweep found, and claims that can fail.

    circuit-claims new antonyms --pairs antonyms.csv --subject path/to/my-model
    pytest antonyms --subject path/to/my-model

The pairs have the columns clean, corrupted, answer and foil, and cluster, if any. The card is found on one half of the
clusters, and the claims are judged on the other.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from circuit_claims.model_options import add_bos, add_loading
from circuit_claims.option_checks import BOS, BOS_SPELLINGS, contradiction, wrong_seed

if TYPE_CHECKING:  # slow to import
    from circuit_claims.new_claims.short_sweep import Found
    from circuit_claims.prompts.contrasts.population import Contrasts
    from circuit_claims.subjects.subject import Subject

ONE_VALUE = tuple("--pairs --subject --out --prompts --seed --device --dtype --weights --bos --encoding --split".split())
#: Pairs that the short sweep measures at most; the claims take as many as they need.
PROMPTS, FEWEST = 60, 8


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="circuit-claims new", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="of the behaviour, such as antonyms: the folder and its fixture are called so")
    add("--pairs", required=True, metavar="FILE", help=".csv, .tsv, .jsonl or .parquet, or hf:owner/name")
    add("--subject", required=True, metavar="MODEL", help="as for pytest: mini, gpt2, another hub id, a folder, or a GGUF file")
    add("--out", default="", metavar="FOLDER", help="to write (NAME in this folder)")
    add("--prompts", type=int, default=PROMPTS, metavar="N", help=f"pairs to measure at most ({PROMPTS})")
    add("--seed", type=int, default=0, help="of the order in which pairs are drawn (0)")
    add_loading(parser)
    add_bos(parser)
    add("--no-space", action="store_true", help="answers stand right behind the texts, without a space")
    add("--no-marks", action="store_true", help="brackets in the texts are text, and mark no positions")
    add("--encoding", help="of a text file that is not UTF-8, such as latin-1")
    add("--split", help="of a data set (train)")
    given = sys.argv[1:] if given is None else given
    args = parser.parse_args(given)
    if twice := contradiction(given, ONE_VALUE, BOS_SPELLINGS):
        parser.error(twice)
    return args


def main(given: Sequence[str] | None = None) -> None:
    """Find out what there is and write the folder; exit status 2, after one sentence, where that cannot be done."""
    args = arguments(given)
    if wrong := wrong_name(args.name) or wrong_seed(args.seed):
        _refuse(wrong)
    if args.prompts < FEWEST:
        _refuse(f"--prompts must be at least {FEWEST}: fewer pairs tell nothing")
    folder = Path(args.out or args.name).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _refuse(f"{folder} is there already: remove it, or give the claims another name, or another folder with --out")
    # Everything that loads a model is imported here, so that --help and a refusal cost no seconds.
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.new_claims.short_sweep import NothingThere
    from circuit_claims.prompts.contrasts.errors import PairsError
    from circuit_claims.untested import Untested

    try:
        _new(args, folder)
    except (SubjectError, PairsError, NothingThere, Untested) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{folder} cannot be written ({error.strerror or error}): name another folder with --out")


def wrong_name(name: str) -> str:
    """What is wrong with a name as one of a fixture; empty where nothing is."""
    import keyword

    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith(("_", "test")):
        return f"{name!r} cannot name a fixture: take letters, digits and underscores, such as my_antonyms"
    if name in taken_names():
        return f"{name!r} is a fixture already: take another name, such as my_{name}"
    return ""


def taken_names() -> frozenset[str]:
    """The fixtures that a claim may ask for, whose names a task may not take."""
    from importlib import import_module

    from circuit_claims.plugin import pytest_plugins

    ours = {
        name
        for module in pytest_plugins
        for name, value in vars(import_module(module)).items()
        if type(value).__name__ == "FixtureFunctionDefinition"  # the library imports nothing of pytest
    }
    others = (
        "request cache capsys capfd caplog monkeypatch pytestconfig recwarn tmp_path tmp_path_factory benchmark data given st"
    )
    return frozenset(ours | set(others.split()))


def _new(args: argparse.Namespace, folder: Path) -> None:
    from circuit_claims.cards.card import NONE
    from circuit_claims.new_claims.folder import Written, copied_as, write
    from circuit_claims.new_claims.short_sweep import short_sweep
    from circuit_claims.prompts.contrasts.population import Contrasts
    from circuit_claims.subjects.find import choose
    from circuit_claims.subjects.subject import Settings, Subject, prepare
    from circuit_claims.tasks.contrast.task import ContrastTask
    from circuit_claims.threads import use_few_threads

    reading: dict[str, Any] = {"encoding": args.encoding, "split": args.split, "marks": False if args.no_marks else None}
    reading = {key: value for key, value in reading.items() if value is not None}
    options = reading | ({"space": False} if args.no_space else {})
    pairs = Contrasts.of(args.pairs, half="discovery", folder=Path.cwd(), **options)
    for half in ("discovery", "verdict"):
        Contrasts(pairs.table, pairs.digest, half, False, pairs.space).check()
    settings = Settings(
        name=choose(args.subject)[0],
        card=NONE,
        device=args.device,
        dtype=args.dtype,
        mode=args.weights,
        prepend_bos=BOS[args.bos],
    )
    prepared = prepare(settings)
    use_few_threads(prepared.folder.n_parameters)
    subject = Subject(prepared)
    _ = subject.transformer  # raises Untested where interventions do not know its architecture
    found = short_sweep(ContrastTask.of(subject, pairs, seed=args.seed), args.prompts)
    file = Path(args.pairs).expanduser()
    copied = file.resolve() if file.is_file() else None
    source = copied_as(copied) if copied else args.pairs if args.pairs.startswith("hf:") else str(file.resolve())
    date = datetime.now(UTC).date().isoformat()
    written = Written(args.name, source, options, args.subject, date, found.recoveries, found.by, found.can_be_spared)
    files = {
        "conftest.py": written.conftest(),
        f"test_{args.name}.py": written.claims(),
        "card.toml": card(args, pairs, subject, found, date),
        "README.md": written.readme(),
    }
    write(folder, files, copied)
    print(*said(args, folder, pairs, found), sep="\n")


def card(args: argparse.Namespace, pairs: "Contrasts", subject: "Subject", found: "Found", date: str) -> str:
    """The card, as text."""
    from circuit_claims.cards.settings import CardSettings
    from circuit_claims.discovery.card_text import card_text
    from circuit_claims.discovery.families import Found as Family
    from circuit_claims.new_claims import short_sweep
    from circuit_claims.subjects.subject import versions

    families = {}
    if found.recoveries:
        rule = (
            f"recovers at least {short_sweep.LEAST_RECOVERY:g} by itself at END, and {short_sweep.OF_THE_BEST:g} of the best's"
        )
        evidence = {head: f"recovery {value:.3f}" for head, value in found.recoveries.items()}
        families["carrier"] = Family(tuple(found.recoveries), "END", rule, evidence=evidence)
    bos = "with BOS" if subject.prepend_bos else "without BOS"
    return card_text(
        title=f"{args.name} in {subject.name}",
        models=(subject.name,),
        shape=(subject.transformer.n_layers, subject.transformer.n_heads),
        found=families,
        findings={args.name: found.findings},
        source=f"exploratory, {date}: {found.n} pairs of the discovery half, seed {args.seed}, {bos}, {args.weights} weights",
        provenance=f"weights {subject.weights_sha256}, torch {versions()['torch']}, {args.dtype}; pairs {pairs.digest}",
        settings=CardSettings(subject.prepend_bos, args.weights, args.dtype, None, found.n, args.seed, subject.weights_sha256),
        head=(
            f"# Found by `circuit-claims new {args.name}` on the discovery half of the pairs; claims are judged on the other.",
        ),
    )


def said(args: argparse.Namespace, folder: Path, pairs: "Contrasts", found: "Found") -> list[str]:
    """What was found and written, and what to do next."""
    from circuit_claims.discovery.summary import shown

    place = shown(folder)
    lines = [
        f"{pairs}: {found.n} of them measured",
        f"the answer is ahead of its foil by {found.logit_difference:.2f} logits",
    ]
    if found.recoveries:
        heads = ", ".join(f"{head} ({value:.2f})" for head, value in found.recoveries.items())
        lines.append(f"at END it is carried by {heads}; without them ({found.by} ablation) {found.remaining:.0%} of it is left")
    else:
        lines.append("no head by itself recovers much of it at END: there is no claim about heads")
    subject = shlex.quote(args.subject)
    lines += [
        f"{place}: {5 if found.recoveries else 2} claims, to be judged on the other half of the pairs. Read them and run",
        f"  pytest {shlex.quote(place)} --subject {subject}",
        f"  circuit-claims audit {shlex.quote(place)} --subject {subject}",
    ]
    return lines


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
