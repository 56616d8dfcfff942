"""Experiments from the command line: `circuit-claims lens`, `trace`, `patch`, `attention`, `attribute`.

Each writes figure.svg, figure.png and result.json into a folder, and prints the main result in a sentence.
"""

import argparse
import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from circuit_claims.model_options import add_bos, add_loading
from circuit_claims.option_checks import BOS, BOS_SPELLINGS, contradiction, wrong_seed

if TYPE_CHECKING:  # slow to import
    from circuit_claims.experiments.result import Result
    from circuit_claims.subjects.subject import Subject

FOLDER = "circuit-claims-experiments"
#: Letters of the prompt that a folder's name has.
LETTERS = 40
_METHODS = ("direct", "attribution-patching")
_FIRST = "compare a word of several tokens by its first"
_OF_THE_MODEL = "--subject --device --dtype --weights --bos"
_ONE_VALUE = tuple(f"{_OF_THE_MODEL} --out --seed --target --answer --foil --corrupted --about --at --method --top".split())


class Experiment(NamedTuple):
    """help: what it does; example: a command line; add: adds its own options; run: makes it on a loaded model."""

    help: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[["Subject", argparse.Namespace], "Result"]


def _add_lens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="TOKEN", help='to follow, such as " oxygen" (the model\'s own answer)')
    parser.add_argument("--top", type=int, default=5, metavar="N", help="likeliest tokens by layer (5)")
    parser.add_argument("--all-positions", action="store_true", help="a table of layers and positions too")
    parser.add_argument("--first-token", action="store_true", help=_FIRST)


def _lens(model: "Subject", args: argparse.Namespace) -> "Result":
    from circuit_claims.experiments.logit_lens import logit_lens

    given = {"top": args.top, "all_positions": args.all_positions, "first_token": args.first_token}
    return logit_lens(model, args.prompt, args.target, **given)


def _add_trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="TOKEN", help='the answer, such as " Paris" (the model\'s own)')
    parser.add_argument("--foil", metavar="TOKEN", help="another answer: measure the difference of the two logits")
    parser.add_argument("--about", metavar="WORDS", help="the words of the prompt to put noise on")
    parser.add_argument("--corrupted", metavar="PROMPT", help="another prompt of as many tokens, in place of noise")
    parser.add_argument("--first-token", action="store_true", help=_FIRST)


def _trace(model: "Subject", args: argparse.Namespace) -> "Result":
    from circuit_claims.experiments.causal_tracing import trace

    given = {"about": args.about, "corrupted": args.corrupted, "foil": args.foil, "first_token": args.first_token}
    return trace(model, args.prompt, args.target, seed=args.seed, **given)


def _add_patch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corrupted", metavar="PROMPT", required=True, help="the prompt to patch into, of as many tokens")
    parser.add_argument("--answer", metavar="TOKEN", help='of the clean prompt, such as " Mary" (the model\'s own)')
    parser.add_argument("--foil", metavar="TOKEN", help="another answer: measure the difference of the two logits")
    parser.add_argument("--at", default="END", metavar="WHERE", help="where heads are patched: a word or a position (END)")
    parser.add_argument("--first-token", action="store_true", help=_FIRST)


def _patch(model: "Subject", args: argparse.Namespace) -> "Result":
    from circuit_claims.experiments.patching import patch

    given = {"foil": args.foil, "at": args.at, "first_token": args.first_token}
    return patch(model, args.prompt, args.corrupted, args.answer, **given)


def _add_attention(parser: argparse.ArgumentParser) -> None:
    several = "to draw; several times for several (all heads' strongest edge)"
    parser.add_argument("--head", action="append", default=[], metavar="L9H9", help=several)


def _attention(model: "Subject", args: argparse.Namespace) -> "Result":
    from circuit_claims.experiments.attention import attention

    return attention(model, args.prompt, args.head)


def _add_attribute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--answer", metavar="TOKEN", help='such as " Mary" (the model\'s own)')
    parser.add_argument("--foil", metavar="TOKEN", help="another answer: attribute the difference of the two logits")
    parser.add_argument(
        "--method", default="direct", choices=_METHODS, help="what is written, or a gradient's estimate (direct)"
    )
    parser.add_argument("--corrupted", metavar="PROMPT", help="of attribution patching: another prompt of as many tokens")
    parser.add_argument("--first-token", action="store_true", help=_FIRST)


def _attribute(model: "Subject", args: argparse.Namespace) -> "Result":
    from circuit_claims.experiments.attribution import attribute

    given = {"foil": args.foil, "corrupted": args.corrupted, "method": args.method, "first_token": args.first_token}
    return attribute(model, args.prompt, args.answer, **given)


_STORE = '"When Mary and John went to the store, John gave a drink to"'
_OTHER = '"When Mary and John went to the store, Mary gave a drink to"'
EXPERIMENTS = {
    "lens": Experiment(
        "The logit lens on one prompt: the likeliest tokens, and a target's probability and rank, after each layer.",
        'circuit-claims lens "Water is made of hydrogen and" --target " oxygen"',
        _add_lens,
        _lens,
    ),
    "trace": Experiment(
        "Causal tracing of one prompt: which states bring the answer back once the words it is about are corrupted.",
        'circuit-claims trace "The Eiffel Tower is located in the city of" --target " Paris" --about "The Eiffel Tower"',
        _add_trace,
        _trace,
    ),
    "patch": Experiment(
        "Activation patching from one prompt into another: the residual stream by position, and every head.",
        f'circuit-claims patch {_STORE} --corrupted {_OTHER} --answer " Mary" --foil " John"',
        _add_patch,
        _patch,
    ),
    "attention": Experiment(
        "Attention on one prompt: where every head looks from the last token, or whole patterns of some heads.",
        f"circuit-claims attention {_STORE} --head L9H9 --head L9H6",
        _add_attention,
        _attention,
    ),
    "attribute": Experiment(
        "Direct logit attribution of one prompt's answer to heads and layers, or attribution patching.",
        f'circuit-claims attribute {_STORE} --answer " Mary" --foil " John"',
        _add_attribute,
        _attribute,
    ),
}


def arguments(name: str, given: Sequence[str]) -> argparse.Namespace:
    """The command line of one experiment."""
    experiment = EXPERIMENTS[name]
    parser = argparse.ArgumentParser(
        prog=f"circuit-claims {name}",
        description=experiment.help,
        epilog=f"Example: {experiment.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("prompt", help="the words after which the next token is asked for; no space at the end")
    experiment.add(parser)
    add(
        "--subject",
        default="auto",
        metavar="NAME",
        help="as for pytest: mini, gpt2, a hub id, a folder, a GGUF file (auto)",
    )
    add_loading(parser)
    add_bos(parser)
    add("--seed", type=int, default=0, help="of the noise (0)")
    add("--out", metavar="FOLDER", help=f"to write into ({FOLDER}/{name}-... here)")
    args = parser.parse_args(given)
    if twice := contradiction(given, _ONE_VALUE, BOS_SPELLINGS) or wrong_seed(args.seed):
        parser.error(twice)
    return args


def main(name: str, given: Sequence[str]) -> None:
    """Make one experiment and write it; exit status 2, after one sentence, where that cannot be done."""
    args = arguments(name, given)
    # Everything that loads a model is imported here, so that --help and a refusal cost no seconds.
    from circuit_claims.experiments.experiment_error import ExperimentError
    from circuit_claims.experiments.saving import refuse_to_overwrite
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.untested import Untested

    folder = Path(args.out or Path(FOLDER) / _folder_name(name, args)).expanduser()
    try:
        refuse_to_overwrite(folder)
        result = EXPERIMENTS[name].run(_loaded(args), args)
        paths = result.save(folder, command=shlex.join(["circuit-claims", name, *given]))
    except (SubjectError, ExperimentError) as error:
        _refuse(str(error))
    except Untested as error:
        _refuse(str(error) or "the subject cannot be measured")
    except FloatingPointError as error:
        _refuse(f"{error}: there is nothing to measure in such a model, unless it is its --dtype that overflows")
    for remark in result.remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(result.sentence, *(_shown(path) for path in paths), sep="\n")


def _loaded(args: argparse.Namespace) -> "Subject":
    from circuit_claims.cards.card import NONE
    from circuit_claims.subjects.find import choose
    from circuit_claims.subjects.subject import Settings, Subject, prepare
    from circuit_claims.threads import use_few_threads

    name = choose(args.subject)[0]
    mode, bos = args.weights, BOS[args.bos]
    settings = Settings(name=name, card=NONE, device=args.device, dtype=args.dtype, mode=mode, prepend_bos=bos)
    prepared = prepare(settings)
    use_few_threads(prepared.folder.n_parameters)
    return Subject(prepared)


def _folder_name(name: str, args: argparse.Namespace) -> str:
    """The experiment, the first words of its prompt, and six digits that tell it from the same words with other options."""
    words = re.sub(r"[^a-z0-9]+", "-", args.prompt.lower())[:LETTERS].strip("-") or "prompt"
    asked: dict[str, Any] = {key: value for key, value in vars(args).items() if key != "out"}
    digits = hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest()[:6]
    return f"{name}-{words}-{digits}"


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)
