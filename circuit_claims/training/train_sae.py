"""Train a sparse autoencoder on a layer of the residual stream: `circuit-claims train-sae`, or `make sae`.

Without options this makes the one that is embedded for mini. Its layer is the stream before layer 2: by the sweep over the
residual stream (name swap), END carries S2's identity there (recovery 1.03) and not one layer later (0.10), where layer 2 has
turned it into a place to attend to.

    circuit-claims train-sae --subject gpt2 --layer 8 --width 24576 \\
        --text openwebtext.txt --tokens 100000000 --out my-sae
    circuit-claims run sae --subject gpt2 --sae my-sae

What is written loads with sae-lens's `SAE.load_from_disk`, beside it is `training.json` with the command, the curves and the
numbers on held-out text. After a kill, the same command with --resume goes on where the last checkpoint was.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from circuit_claims.sae.text import Rows
    from circuit_claims.sae.training import Recipe, Trained
    from circuit_claims.subjects.subject import Subject

#: The embedded SAE's layer (see above).
MINI_LAYER = 2
#: Rows of held-out text on which the finished SAE is measured.
MEASURED_ROWS = 960


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what has no default here has the recipe's (`circuit_claims.sae.training.Recipe`)."""
    parser = argparse.ArgumentParser(
        prog="circuit-claims train-sae",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--subject", default="mini", metavar="NAME", help="as for pytest: mini, gpt2, a hub id, a folder, a GGUF file (mini)")
    add("--weights", default="processed", choices=["raw", "processed"], help="as for pytest (processed)")
    add("--layer", type=int, help="the residual stream before it; the number of layers: after the last (mini: 2)")
    add("--architecture", choices=["standard", "topk", "batchtopk"], help="standard is ReLU with an L1 penalty (topk)")
    add("--width", type=int, help="features (1024)")
    add("--k", type=int, help="features a token: exactly, of topk; on average, of batchtopk")
    add("--l1", type=float, help="the penalty's coefficient, of standard")
    add("--tokens", type=int, help="to train on")
    add("--batch", type=int, help="tokens a step (2048)")
    add("--rate", type=float, help="the learning rate's peak")
    add("--seed", type=int, default=0, help="of the weights, the text and its order (0)")
    add("--buffer", type=int, help="rows of text whose activations are mixed; memory grows with it (512)")
    add("--text", help="a text file, .jsonl with a text a line, or a data set of the hub; mini has a generator of its own")
    add("--context", type=int, help="tokens a row of --text (128, or what the model takes)")
    add("--prepend-bos", action=argparse.BooleanOptionalAction, default=True, help="begin rows of --text with BOS (yes)")
    add("--out", type=Path, metavar="FOLDER", help="what to write (mini: the embedded one)")
    add("--resume", action="store_true", help="go on with a training that was interrupted")
    add("--threads", type=int, help="of the processor (1 where the model is small, else all)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Train and write; exit status 2, after one sentence, where that cannot be done."""
    args = arguments(given)
    # Everything that loads a model is imported here, so that --help and a refusal cost no seconds.
    from circuit_claims.models.subject_error import SubjectError
    from circuit_claims.untested import Untested

    try:
        _run(args, sys.argv[1:] if given is None else list(given))
    except SubjectError as error:
        _refuse(str(error))
    except Untested as error:
        _refuse(str(error) or "the subject cannot be trained on")
    except KeyboardInterrupt:
        _refuse("interrupted: the same command with --resume goes on from the last checkpoint, if one was written")


def _run(args: argparse.Namespace, given: Sequence[str]) -> None:

    import torch

    from circuit_claims.sae.folder import EMBEDDED_SAES, SaeError
    from circuit_claims.sae.training import train
    from circuit_claims.threads import SMALL

    if args.seed < 0:
        raise SaeError("--seed must not be negative")
    embedded = args.subject in EMBEDDED_SAES
    if args.layer is None and not embedded:
        raise SaeError("say with --layer which layer's residual stream to train on")
    if args.out is None and not embedded:
        raise SaeError("say with --out which folder to write")
    if args.text is None and args.subject != "mini":
        raise SaeError(f"there is no text of its own for {args.subject}: name a file or a data set of the hub with --text")
    out = (args.out or EMBEDDED_SAES[args.subject]).expanduser().resolve()
    if out.is_file() or not out.parent.is_dir():
        raise SaeError(f"{out} cannot be written, since it is a file or its parent is no folder: name another with --out")
    checkpoint = out.with_name(out.name + ".checkpoint.safetensors")
    if checkpoint.exists() and not args.resume:
        raise SaeError(f"a training of {out.name} was interrupted: go on with --resume, or remove {checkpoint.name}")
    recipe = recipe_of(args)
    subject = _subject(args)
    small = sum(p.numel() for p in subject.bridge.parameters()) < SMALL
    torch.set_num_threads(args.threads or (1 if small else torch.get_num_threads()))
    text, held_out = texts(args, subject)
    with Watching(recipe.steps) as watching:
        trained = train(recipe, subject, text, held_out, checkpoint=checkpoint, resume=args.resume, told=watching)
    record = make_record(recipe, subject, text, held_out, trained, given)
    export(trained.sae, record, out)
    checkpoint.unlink(missing_ok=True)
    Console().print(f"{out.name}: {summary(record)}", highlight=False, soft_wrap=True)


def recipe_of(args: argparse.Namespace) -> "Recipe":
    """The recipe that a command line asks for.

    Raises SaeError where it means nothing.
    """
    from circuit_claims.sae.training import Recipe

    chosen = {name: getattr(args, name) for name in ("architecture", "width", "k", "l1", "tokens", "batch", "rate", "buffer")}
    layer = MINI_LAYER if args.layer is None else args.layer
    return Recipe(layer=layer, seed=args.seed, **{name: value for name, value in chosen.items() if value is not None})


def _subject(args: argparse.Namespace) -> "Subject":
    from circuit_claims.cards.card import NONE
    from circuit_claims.subjects.subject import Settings, Subject, prepare

    settings = Settings(name=args.subject, device=args.device, mode=args.weights, card=NONE)
    # Features are looked for in models that nobody has a card of.
    return Subject(prepare(settings))


def texts(args: argparse.Namespace, subject: "Subject") -> tuple["Rows", "Rows"]:
    """What to train on and what to watch by: rows that have nothing in common.

    Raises SaeError where the text cannot be read, or rows are longer than the model takes.
    """
    from circuit_claims.sae.folder import SaeError
    from circuit_claims.sae.text import GeneratedRows, TextRows, documents_of

    if args.text is None:
        return GeneratedRows("training", args.seed), GeneratedRows("held out", args.seed)
    documents, name = documents_of(args.text), Path(args.text).name if Path(args.text).is_file() else args.text
    longest = subject.transformer.n_ctx or 128
    context = args.context or min(128, longest)
    if not 2 <= context <= longest:
        raise SaeError(f"--context must be from 2 to {longest}, which {subject.name} takes, and is {context}")
    if args.prepend_bos and subject.tokenizer.bos_token_id is None:
        raise SaeError(f"the tokenizer of {subject.name} has no BOS token: run with --no-prepend-bos")
    more: dict[str, Any] = {"context": context, "prepend_bos": args.prepend_bos}
    training = TextRows(name, documents, subject.tokenizer, part="training", **more)
    return training, TextRows(name, documents, subject.tokenizer, part="held out", **more)


class Watching(AbstractContextManager["Watching"]):
    """A bar with what is monitored, where standard error is a terminal; where it is none, nothing."""

    def __init__(self, steps: int) -> None:
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> "Watching":
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def __call__(self, step: int, seen: dict[str, float] | None) -> None:
        """A step is done; `seen` is what was monitored after it, if anything was."""
        self._bar.update(self._task, completed=step)
        if seen is not None:
            self._bar.update(
                self._task,
                description=f"L0 {seen['l0']:.1f}, explained variance {seen['explained_variance']:.3f}, "
                f"loss recovered {seen['loss_recovered']:.3f}, dead {seen['dead']:.1%}",
            )


def make_record(
    recipe: "Recipe", subject: "Subject", text: "Rows", held_out: "Rows", trained: "Trained", given: Sequence[str]
) -> dict[str, Any]:
    """What was done and what came out, for training.json."""
    from importlib.metadata import version

    import torch

    from circuit_claims.sae.row_sums import row_sums, special_tokens
    from circuit_claims.sae.training import as_loaded

    # Beyond the rows that the training was watched by, from which settings may have been chosen.
    rows = held_out.rows(recipe.held_out, _rows_to_measure(held_out, recipe.held_out))
    sums, fired = row_sums(as_loaded(trained.sae, recipe, subject), rows, special_tokens(subject.tokenizer))
    rates = fired / sums.tokens.sum()
    return {
        "command": " ".join(["circuit-claims train-sae", *given]),
        "recipe": asdict(recipe),
        "subject": subject.name,
        "model_weights_sha256": subject.weights_sha256,
        "mode": subject.mode,
        "text": text.name,
        "held_out_text": held_out.name,
        "seconds": round(trained.seconds),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "sae-lens", "transformer-lens", "transformers")},
        },
        "held_out": {
            "rows": f"{recipe.held_out} to {recipe.held_out + len(rows) - 1}",
            **{name: float(f"{value:.6g}") for name, value in sums.numbers().items()},
            "dead": float(f"{(fired == 0).mean():.6g}"),
            "dense": float(f"{(rates > 0.1).mean():.6g}"),
        },
        "curve": [{name: float(f"{value:.6g}") for name, value in seen.items()} for seen in trained.curve],
    }


def _rows_to_measure(held_out: "Rows", first: int) -> int:
    """As many as wanted, or what a short text has."""
    from circuit_claims.sae.folder import SaeError

    for n in (MEASURED_ROWS, MEASURED_ROWS // 4, MEASURED_ROWS // 16):
        try:
            held_out.rows(first, n)
            return n
        except SaeError:
            continue
    raise SaeError(f"{held_out.name} is too short to measure the SAE on: give a longer text")


def summary(record: dict[str, Any]) -> str:
    """One line about what came out."""
    seen = record["held_out"]
    return (
        f"{record['recipe']['width']} features; on held-out text L0 {seen['l0']:.1f}, explained variance "
        f"{seen['explained_variance']:.3f}, loss recovered {seen['loss_recovered']:.3f}, dead {seen['dead']:.1%}; "
        f"{record['seconds']} s"
    )


def export(sae: Any, record: dict[str, Any], folder: Path) -> None:
    """Write the SAE and its record to `folder`, whole or not at all: beside it first, then in its place."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        sae.cfg.device = "cpu"  # where it was trained is nothing to who loads it
        sae.save_model(new)
        cfg = new / "cfg.json"
        cfg.write_text(json.dumps(json.loads(cfg.read_text()), indent=2, sort_keys=True) + "\n")
        (new / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner can read
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                shutil.move(old, folder)
            raise


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
