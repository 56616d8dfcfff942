"""The house's own rules, read off the sources: what is packaged, who imports whom, and how large things may grow."""

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "circuit_claims"
#: At the top of the repository, and part of the package.
AT_THE_TOP = ("claims", "fixtures", "reports")
MOST_LINES, MOST_MODULES = 400, 20

SOURCES = [path for folder in ("circuit_claims", *AT_THE_TOP, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def module_name(path: Path) -> str:
    """`circuit_claims.fixtures.options` for fixtures/options.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("circuit_claims", *parts) if parts[0] in AT_THE_TOP else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports wherever it does, inside functions too; for a type checker alone is not an import."""
    remaining: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while remaining:
        node = remaining.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            remaining.extend(node.orelse)
        else:
            remaining.extend(ast.iter_child_nodes(node))


def package_of(module: str) -> str:
    """`engine` for circuit_claims.engine.decoder.layer; a module that lies in no package is one by itself."""
    return module.split(".")[1]


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {module_name(path) for path in SOURCES if path.name == "__init__.py"}
    assert len(listed) == len(set(listed))
    assert set(listed) == {name for name in there if name.split(".")[0] == "circuit_claims"}
    without = {path.parent for path in SOURCES if not (path.parent / "__init__.py").is_file()}
    assert not without, "folders without __init__.py are not installed"


def test_packages_import_each_other_in_one_direction():
    uses: dict[str, set[str]] = {}
    for path in (path for folder in (LIBRARY, ROOT / "fixtures", ROOT / "reports") for path in folder.rglob("*.py")):
        name = module_name(path)
        if name in ENTRANCES:
            continue
        package = uses.setdefault(package_of(name), set())
        package |= {package_of(it) for it in imports(path) if it.startswith("circuit_claims.")} - {package_of(name)}
    try:
        order = list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        pytest.fail(f"packages import each other in a circle: {' <- '.join(error.args[1])}")
    assert order.index("models") < order.index("subjects") < order.index("tasks")


#: What the library is entered by imports whatever it hands on to.
ENTRANCES = (
    "circuit_claims",
    "circuit_claims.cli",
    "circuit_claims.__main__",
    "circuit_claims.plugin",
    "circuit_claims.notebook",
)


def test_the_library_does_not_import_pytest():
    for path in LIBRARY.rglob("*.py"):
        wrong = [name for name in imports(path) if name.split(".")[0] in ("pytest", "_pytest")]
        assert not wrong, path


def test_no_file_is_too_long():
    lines = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in SOURCES}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}


def test_no_folder_is_too_full():
    for folder in {path.parent for path in SOURCES}:
        modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_MODULES, folder
