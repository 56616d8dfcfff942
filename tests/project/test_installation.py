"""What is installed is complete: a wheel in an environment of its own, far from the repository."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from circuit_claims.embedded import checkout

ROOT = Path(__file__).parents[2]
PACKAGES = ("circuit_claims", "claims", "fixtures", "reports")

pytestmark = pytest.mark.skipif(checkout() is None, reason="there is nothing to build a wheel from: run it in a clone")

CLAIM = '''
def test_the_answer_is_known(ioi, expect):
    """The model prefers the indirect object."""
    expect(ioi.logit_difference(), source="my notebook").above(1)
'''


def built(kind: str, source: Path, out: Path) -> Path:
    """What setuptools builds from a copy of the project, as pip would have it build."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    out.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from: building writes into its folder."""
    folder = tmp_path_factory.mktemp("source") / "project"
    ignored = shutil.ignore_patterns("__pycache__", "out", "*.egg-info")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return built("wheel", source, tmp_path_factory.mktemp("wheel") / "out")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel in it, which sees other projects' packages of this one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (installed,) = folder.rglob("site-packages")
    # A folder that a .pth file names is searched, and its own .pth files, which editable installations go by, are not read.
    third_party = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (installed / "third_party.pth").write_text("\n".join(third_party))
    return interpreter


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "circuit-claims-report/claims.json").read_text(encoding="utf-8"))["rows"]


def test_the_wheel_has_every_file_of_the_packages(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and "out" not in path.parts:
                name = path.relative_to(ROOT).as_posix()
                assert (name if package == "circuit_claims" else f"circuit_claims/{name}") in inside, name
    assert not [name for name in inside if not name.startswith(("circuit_claims/", "circuit_claims-"))]


def test_the_source_distribution_makes_the_same_wheel(source, wheel, tmp_path):
    archive = built("sdist", source, tmp_path / "out")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    again = built("wheel", folder, tmp_path / "again")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_nothing_is_imported_from_the_repository(python, tmp_path):
    code = "import circuit_claims.claims, circuit_claims.reports as r; print(circuit_claims.__file__, r.__file__)"
    done = run(python, tmp_path, "-c", code)
    assert done.returncode == 0 and str(ROOT) not in done.stdout and str(python.parents[1]) in done.stdout


def test_the_suite_runs_from_an_empty_folder(python, tmp_path):
    few = ("--prompts", "30", "--max-prompts", "30", "--hypothesis-profile", "fast")  # this is about files, and not about mini
    suite = ("--pyargs", "circuit_claims.claims", "-k", "behaviour", "--subject", "mini")
    done = run(python, tmp_path, "-m", "pytest", *suite, *few)
    assert done.returncode == 0, done.stdout[-3000:]
    found = rows(tmp_path)
    assert {row["claim_id"].rpartition("/")[0] for row in found} == {"ioi/behaviour"}
    assert "holds" in {row["verdict"] for row in found} <= {"holds", "untested", "inconclusive"}
    assert any(row["controls"] for row in found), "the audit's table is there"
    assert (tmp_path / "circuit-claims-report/report.html").is_file()


def test_a_claim_of_ones_own_runs_in_a_folder_that_holds_nothing_else(python, tmp_path):
    (tmp_path / "test_mine.py").write_text(CLAIM)
    done = run(python, tmp_path, "-m", "pytest", "--subject", "mini")
    assert done.returncode == 0, done.stdout[-3000:]
    (row,) = rows(tmp_path)
    assert (row["claim_id"], row["verdict"]) == ("mine/the_answer_is_known", "holds")


def test_the_claims_are_those_of_the_repository(python, tmp_path):
    def collected(interpreter: Path, folder: Path, *arguments: str) -> list[str]:
        options = ("--collect-only", "-q", "-k", "ioi", "--subject=mini", "-p", "no:cacheprovider")
        done = run(interpreter, folder, "-m", "pytest", *arguments, *options)
        return [line for line in done.stdout.splitlines() if "::" in line]

    here = collected(Path(sys.executable), ROOT, "claims")
    assert len(here) > 100
    assert collected(python, tmp_path, "--pyargs", "circuit_claims.claims") == here


def test_the_command_is_installed(python, tmp_path):
    command = python.with_name("circuit-claims")
    done = subprocess.run([command, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("circuit-claims ") and done.returncode == 0
