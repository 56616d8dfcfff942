"""The command `circuit-claims`: each of its commands hands its arguments on to the module that does the work.

That module is imported when it is asked for, so that `circuit-claims --help` answers at once.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

SUITE = "circuit_claims.claims"

app = typer.Typer(
    help="Published claims about circuits of language models, as tests that can fail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
#: What follows a command is the other program's, word for word.
_ALL_HANDED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def main() -> None:
    """What is installed as `circuit-claims`."""
    app(prog_name="circuit-claims")


def _version(wanted: bool) -> None:
    if wanted:
        from circuit_claims import __version__

        print(f"circuit-claims {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command(
    context_settings=_ALL_HANDED_ON,
    epilog="Example: circuit-claims run ioi --subject path/to/my-model --card gpt2-small",
    options_metavar="[CHAPTER]... [PYTEST'S ARGUMENTS]...",
)
def run(context: typer.Context) -> None:
    """Run the claims: all of them, or the named chapters, such as ioi or induction.

    Whatever follows is handed on to pytest: -k ioi, -n 2, --collect-only, and the options about claims that
    `pytest --help` lists (--subject, --card, --seed, --report-dir, --against and others). With --config FILE, a run file
    says all of that (see `circuit-claims config example`), and what stands on the command line besides goes before it.
    """
    command = [sys.executable, "-m", "pytest", "--pyargs", *_pytest_arguments(list(context.args))]
    if os.name == "nt":
        raise typer.Exit(subprocess.call(command))
    sys.stdout.flush()
    os.execv(sys.executable, command)  # so that Ctrl-C and the exit status are pytest's own


def _pytest_arguments(given: list[str]) -> list[str]:
    """What pytest is told: the chapters that are named first, or those of a run file, and all that follows."""
    from circuit_claims.run_files.arguments import chapters, claims_of, pytest_arguments

    named, known = [], chapters()
    file, given = _config_of(given)
    while given and given[0] in known:
        named.append(f"{SUITE}.{given.pop(0)}")
    if file is None:
        return [*(named or [SUITE]), *given]
    from circuit_claims.run_files.errors import RunFileError
    from circuit_claims.run_files.read import read_run_file
    from circuit_claims.run_files.record import unlike

    try:
        run = read_run_file(Path(file))
    except RunFileError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    if sentence := unlike(run.made_with):
        print(sentence, file=sys.stderr)
    return [*(named or claims_of(run)), *pytest_arguments(run, given), *given]


def _config_of(given: list[str]) -> tuple[str | None, list[str]]:
    """The run file that --config names, and the other arguments. Exit status 2, after a sentence, where no file follows."""
    for at, argument in enumerate(given):
        if argument == "--config" and at + 1 < len(given):
            return given[at + 1], given[:at] + given[at + 2 :]
        if argument == "--config":
            print("--config needs a run file after it: circuit-claims run --config run.yaml", file=sys.stderr)
            raise typer.Exit(2)
        if argument.startswith("--config="):
            return argument.partition("=")[2], given[:at] + given[at + 1 :]
    return None, given


@app.command(epilog="Example: circuit-claims config example > run.yaml")
def config(what: Annotated[str, typer.Argument(help="example, or schema (JSON, for editors)", metavar="WHAT")]) -> None:
    """Print a run file to begin with, or the JSON schema of run files."""
    import json

    from circuit_claims.run_files.example import example, schema

    if what not in ("example", "schema"):
        print(f"there is no {what!r} to print: say example or schema", file=sys.stderr)
        raise typer.Exit(2)
    print(example() if what == "example" else json.dumps(schema(), indent=2), end="" if what == "example" else "\n")


def _hands_on_to(name: str, help: str, find: Callable[[], Callable[[list[str]], int | None]]) -> None:
    """Add a command whose options, and whose --help, are another module's."""

    @app.command(name, help=help, context_settings=_ALL_HANDED_ON, add_help_option=False)
    def command(context: typer.Context) -> NoReturn:
        raise typer.Exit(find()(context.args) or 0)


def _discover() -> Callable[[list[str]], int | None]:
    from circuit_claims.discovery.__main__ import main

    return main


def _audit() -> Callable[[list[str]], int | None]:
    from circuit_claims.audit.__main__ import main

    return main


def _report() -> Callable[[list[str]], int | None]:
    from circuit_claims.reports.__main__ import main

    return main


def _new() -> Callable[[list[str]], int | None]:
    from circuit_claims.new_claims.__main__ import main

    return main


def _train_sae() -> Callable[[list[str]], int | None]:
    from circuit_claims.training.train_sae import main

    return main


def _circuit() -> Callable[[list[str]], int | None]:
    from circuit_claims.circuit_command.command_line import main

    return main


def _coverage() -> Callable[[list[str]], int | None]:
    from circuit_claims.catalogue.command_line import main

    return main


def _experiment(name: str) -> Callable[[], Callable[[list[str]], int | None]]:
    def find() -> Callable[[list[str]], int | None]:
        from circuit_claims.experiments.command_line import main

        return partial(main, name)

    return find


_hands_on_to("discover", "Propose a card for a model that has none, from its own sweeps.", _discover)
_hands_on_to("new", "Write a folder of claims about a behaviour of your own, from pairs of prompts.", _new)
_hands_on_to("audit", "Run every claim on the controls, and write which of them refutes it.", _audit)
_hands_on_to("report", "Write a report from a run's journal (render), or hold one run against another (compare).", _report)
_hands_on_to("train-sae", "Train a sparse autoencoder on a layer of a model's residual stream.", _train_sae)
_hands_on_to("circuit", "Find a circuit of edges, draw it, and list its edges.", _circuit)
_hands_on_to("coverage", "List which published numbers are tested by a claim, and which are not, and why.", _coverage)
_hands_on_to("lens", "The logit lens on one prompt.", _experiment("lens"))
_hands_on_to("trace", "Causal tracing of one prompt.", _experiment("trace"))
_hands_on_to("patch", "Activation patching from one prompt into another.", _experiment("patch"))
_hands_on_to("attention", "Attention patterns on one prompt.", _experiment("attention"))
_hands_on_to("attribute", "What heads and layers write for one prompt's answer.", _experiment("attribute"))


if __name__ == "__main__":
    main()
