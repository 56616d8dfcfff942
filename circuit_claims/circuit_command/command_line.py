"""`circuit-claims circuit`: find a circuit of edges, draw it, and list its edges."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from circuit_claims.model_options import add_bos, add_loading
from circuit_claims.option_checks import BOS, BOS_SPELLINGS, contradiction, wrong_seed

if TYPE_CHECKING:  # slow to import
    from circuit_claims.tasks.task import Task

FOLDER = "circuit-claims-circuit"
TASKS = ("ioi", "greater_than", "acronyms")
METHODS = ("EAP-IG-inputs", "EAP-IG-activations", "EAP", "AtP-QK-fix", "exact", "random", "layer-distance")
_ONE_VALUE = tuple(
    "--subject --device --dtype --weights --bos --card --task --pairs --edges --method --search --order --ablation --prompts "
    "--seed --out".split()
)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line; exit status 2, after one sentence, where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="circuit-claims circuit",
        description="Find a circuit of edges, measure its faithfulness, draw it, and list its edges.",
        epilog="Example: circuit-claims circuit --subject mini --task ioi --edges 200",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--subject", default="auto", metavar="NAME", help="as for pytest: mini, gpt2, a hub id, a folder, a GGUF file (auto)")
    add("--card", metavar="NAME", help="as for pytest: whose families are coloured (the model's own)")
    add_loading(parser)
    add_bos(parser)
    add("--task", default="ioi", choices=TASKS, help="what the circuit does (ioi)")
    add("--pairs", metavar="FILE", help="pairs of prompts of your own, in place of a task")
    add("--edges", type=int, default=200, metavar="N", help="how many edges (200)")
    add("--method", default=METHODS[0], choices=METHODS, help=f"by which edges are scored ({METHODS[0]})")
    add("--search", default="greedy", choices=["greedy", "top"], help="grown from the logits, or the best edges (greedy)")
    add("--order", default="size", choices=["size", "value"], help="edges that matter, or that help (size)")
    add("--ablation", default="resample", choices=["resample", "mean"], help="of edges that are left out (resample)")
    add("--prompts", type=int, default=24, metavar="N", help="on how many prompts (24)")
    add("--seed", type=int, default=0, help="of the prompts (0)")
    add("--out", metavar="FOLDER", help=f"to write into ({FOLDER} here)")
    args = parser.parse_args(given)
    if twice := contradiction(given, _ONE_VALUE, BOS_SPELLINGS) or wrong_seed(args.seed):
        parser.error(twice)
    for name, least in (("edges", 1), ("prompts", 2)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, and is {getattr(args, name)}")
    return args


def main(given: Sequence[str]) -> None:
    """Find a circuit and write it; exit status 2, after one sentence, where that cannot be done."""
    args = arguments(given)
    # Everything that loads a model is imported here, so that --help and a refusal cost no seconds.
    from circuit_claims.circuit_command.result import find_circuit
    from circuit_claims.circuit_command.saving import refuse_to_overwrite, save
    from circuit_claims.edges.errors import EdgeError
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.prompts.contrasts.errors import PairsError
    from circuit_claims.untested import Untested

    folder = Path(args.out or FOLDER)
    try:
        refuse_to_overwrite(folder.expanduser().absolute())
        options = {"search": args.search, "order": args.order, "by": args.ablation, "n": args.prompts}
        found = find_circuit(_task(args), args.edges, method=_method(args.method), **options)
        paths = save(found, folder, command=shlex.join(["circuit-claims", "circuit", *given]))
    except (SubjectError, EdgeError, PairsError) as error:
        _refuse(str(error))
    except Untested as error:
        _refuse(str(error) or "the subject cannot be measured")
    except FloatingPointError as error:
        _refuse(f"{error}: there is nothing to measure in such a model, unless it is its --dtype that overflows")
    here = Path.cwd()
    shown = [path.relative_to(here) if path.is_relative_to(here) else path for path in paths]
    print(found.sentence, *shown, sep="\n")


def _method(spelt: str) -> Any:
    """The method as the library calls it."""
    return {"AtP-QK-fix": "AtP QK fix", "layer-distance": "layer distance"}.get(spelt, spelt.replace("IG-", "IG "))


def _task(args: argparse.Namespace) -> "Task":
    from circuit_claims.notebook import IOI, Acronyms, Contrast, GreaterThan, load

    bos = BOS[args.bos]
    given = {"device": args.device, "dtype": args.dtype, "weights": args.weights, "prepend_bos": bos}
    model = load(args.subject, card=args.card, **given)
    if args.pairs:
        return Contrast(model, args.pairs, seed=args.seed, prepend_bos=bos)
    if args.task == "ioi":
        return IOI(model, seed=args.seed, prepend_bos=bos)
    make = GreaterThan if args.task == "greater_than" else Acronyms
    return make(model, seed=args.seed) if bos is None else make(model, seed=args.seed, prepend_bos=bos)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)
