"""That callers keep to the protocol, read from the sources: who imports an engine, asks which one it is, or looks inside."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from circuit_claims.engine.protocol import Engine

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "circuit_claims" / "engine"
#: Where an engine is made: the subject's, and the one that is timed.
CHOOSING = {"circuit_claims/subjects/engine_choice.py", "benchmarks/gpt2_small_shaped.py"}
#: An engine's classes, by which nobody may ask what it is.
CLASSES = {"Transformer", "ModuleDecoder", "HookedDecoder", "Steps", "Gpt2Steps", "ModuleSteps", "HookedSteps"}
#: What is inside an engine.
INSIDE = {"blocks", "passes", "not_readable", "not_editable"}
NAMED = set(Engine.__annotations__) | {name for name in vars(Engine) if not name.startswith("_")}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PRODUCT = sorted(
    path
    for folder in ("circuit_claims", "claims", "fixtures", "reports", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
CALLERS = [path for path in PRODUCT if ENGINE not in path.parents and name_of(path) not in CHOOSING]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that a file imports, at the top or inside a function."""
    for each in ast.walk(node):
        if isinstance(each, ast.ImportFrom):
            yield from (f"{each.module}.{alias.name}" for alias in each.names)
        elif isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)


def offences(paths: list[Path], rule: Callable[[ast.Module], Iterator[str]]) -> list[str]:
    """What a rule finds in these files."""
    return [f"{name_of(path)}: {what}" for path in paths for what in rule(tree(path))]


def imports_an_engine(file: ast.Module) -> Iterator[str]:
    for module in imported(file):
        if module.startswith(("circuit_claims.engine.decoder", "circuit_claims.engine.hooked")):
            yield f"imports {module}"


def asks_which_it_is(file: ast.Module) -> Iterator[str]:
    for call in ast.walk(file):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass"):
            named = {each.id for each in ast.walk(call.args[1]) if isinstance(each, ast.Name)}
            yield from (f"line {call.lineno} asks whether it is a {name}" for name in sorted(named & CLASSES))


def looks_inside(file: ast.Module) -> Iterator[str]:
    """An object's own attributes (`self.passes`) are no engine's: the sources looked at are those of callers."""
    for each in ast.walk(file):
        if isinstance(each, ast.Attribute):
            of = getattr(each.value, "attr", getattr(each.value, "id", ""))
            if (each.attr in INSIDE and of != "self") or (each.attr == "cfg" and of == "bridge"):
                yield f"line {each.lineno} looks at {of}.{each.attr}"


def uses_what_is_not_named(file: ast.Module) -> Iterator[str]:
    """Attributes of a subject's engine, or of what a function calls it, that the protocol does not name."""
    for function in [file, *(each for each in ast.walk(file) if isinstance(each, ast.FunctionDef))]:
        called = {name for node in ast.walk(function) if isinstance(node, ast.Assign) for name in engines_in(node)}
        for each in ast.walk(function):
            if isinstance(each, ast.Attribute) and each.attr not in NAMED:
                local = isinstance(each.value, ast.Name) and each.value.id in called and function is not file
                if local or is_an_engine(each.value):
                    yield f"line {each.lineno} uses {each.attr}"


def is_an_engine(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "transformer" and ends_with_a_subject(node.value)


def ends_with_a_subject(node: ast.AST) -> bool:
    return getattr(node, "attr", getattr(node, "id", "")) in ("subject", "self")


def engines_in(assigned: ast.Assign) -> Iterator[str]:
    """The names that an assignment gives to an engine."""
    for target in assigned.targets:
        pairs = [(target, assigned.value)]
        if isinstance(target, ast.Tuple) and isinstance(assigned.value, ast.Tuple):
            pairs = list(zip(target.elts, assigned.value.elts, strict=False))
        yield from (name.id for name, value in pairs if isinstance(name, ast.Name) and is_an_engine(value))


@pytest.mark.parametrize("rule", [imports_an_engine, looks_inside, uses_what_is_not_named])
def test_callers_keep_to_the_protocol(rule):
    assert offences(CALLERS, rule) == []


def test_nobody_asks_which_engine_it_is():
    """Not the engine itself: what differs is a method of its own."""
    assert offences(PRODUCT, asks_which_it_is) == []


@pytest.mark.parametrize(("of", "other"), [("decoder", "hooked"), ("hooked", "decoder")])
def test_the_engines_do_not_know_each_other(of, other):
    paths = [path for path in ENGINE.rglob("*.py") if path.parent.name != other]
    assert len(paths) > 10
    shared = [path for path in paths if path.parent.name != of]
    both = [path for path in paths if path.parent.name == of]
    assert offences(shared, imports_an_engine) == [], "what they share imports neither"
    assert [found for found in offences(both, imports_an_engine) if f"engine.{other}" in found] == []


def test_nothing_in_the_engine_is_imported_inside_a_function():
    """Which is how a circle of imports would be hidden."""
    found = []
    for path in ENGINE.rglob("*.py"):
        functions = [each for each in ast.walk(tree(path)) if isinstance(each, ast.FunctionDef)]
        found += [f"{name_of(path)}: {module}" for function in functions for module in imported(function)]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "text", "wanted"),
    [
        (
            imports_an_engine,
            "def f():\n    from circuit_claims.engine.hooked import passes",
            "imports circuit_claims.engine.hooked",
        ),
        (asks_which_it_is, "isinstance(model, (int, Transformer))", "line 1 asks whether it is a Transformer"),
        (looks_inside, "story.subject.bridge.cfg.n_ctx", "line 1 looks at bridge.cfg"),
        (looks_inside, "model.blocks[0]", "line 1 looks at model.blocks"),
        (uses_what_is_not_named, "self.subject.transformer.activation", "line 1 uses activation"),
        (uses_what_is_not_named, "def f(s):\n    n, m = 1, s.subject.transformer\n    m.eps", "line 3 uses eps"),
    ],
)
def test_each_rule_finds_what_it_is_there_for(rule, text, wanted):
    """Were it blind, it would find nothing anywhere."""
    assert [found for found in rule(ast.parse(text)) if found.startswith(wanted)] != []
    assert list(rule(ast.parse("def f(s):\n    m = s.subject.transformer\n    m.run(s.tokens)"))) == []
