"""As an installed plugin: claims run in any folder without a conftest, and a project without claims notices nothing."""

import json
import re

import pytest

from tests.support.claim_projects import HEAD, ROOT, same_profile  # noqa: F401 - a fixture

PLAIN = "def test_one_and_one(): assert 1 + 1 == 2\n"
#: Written when the session ends: what it has imported.
MODULES = """
import sys
def pytest_unconfigure():
    open("modules.txt", "w").write(" ".join(sys.modules))
"""
CLAIM = '''
def test_twos(expect):
    """Twos lie above one."""
    expect(sizes(2, 2, 2), "made up").above(1)
'''


@pytest.fixture
def anywhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, same_profile: None) -> pytest.Pytester:  # noqa: F811
    """A folder without a conftest and without a configuration."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


def write(anywhere: pytest.Pytester, name: str, text: str, head: str = HEAD) -> None:
    path = anywhere.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + text, encoding="utf-8")


def run(anywhere: pytest.Pytester, *arguments: str) -> tuple[pytest.RunResult, list[dict]]:
    """Run pytest in this process, and give back the rows of the report, if there is one."""
    result = anywhere.runpytest_inprocess("-p", "no:cacheprovider", "--import-mode=importlib", *arguments)
    path = anywhere.path / "circuit-claims-report/claims.json"
    return result, json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def said(result: pytest.RunResult) -> list[str]:
    """What pytest has printed, without times and without its list of plugins."""
    lines = [re.sub(r"in \d.*s", "", line) for line in result.outlines if not line.startswith("plugins:")]
    return lines + result.errlines


# A project without claims


def test_a_session_without_claims_prints_nothing_and_imports_nothing_heavy(anywhere):
    write(anywhere, "test_plain.py", PLAIN, head="")
    write(anywhere, "watch.py", MODULES, head="")
    arguments = ("-p", "watch", "-p", "no:cacheprovider", "-p", "no:jaxtyping", "-p", "no:hypothesispytest")
    with_ours = anywhere.runpytest_subprocess(*arguments)
    modules = (anywhere.path / "modules.txt").read_text().split()
    assert "circuit_claims.plugin" in modules and "circuit_claims.fixtures.collection" in modules
    heavy = {"torch", "transformers", "pandas", "numpy", "matplotlib", "hypothesis", "rich", "jinja2", "huggingface_hub"}
    assert not heavy & set(modules)
    without = anywhere.runpytest_subprocess(*arguments, "-p", "no:circuit_claims.plugin")
    assert "circuit_claims.plugin" not in (anywhere.path / "modules.txt").read_text().split()
    assert said(with_ours) == said(without)
    assert not (anywhere.path / "circuit-claims-report").exists()


def test_a_folder_that_is_called_claims_holds_other_tests_elsewhere(anywhere):
    write(anywhere, "claims/test_insurance.py", PLAIN, head="")
    result, rows = run(anywhere)
    result.assert_outcomes(passed=1)
    assert not rows and "claims =" not in result.stdout.str() and not (anywhere.path / "circuit-claims-report").exists()


def test_the_fixtures_of_a_project_are_its_own(anywhere):
    write(
        anywhere,
        "test_mine.py",
        "import pytest\n@pytest.fixture\ndef expect(): return 1\n@pytest.fixture\ndef subject(): return 'maths'\n"
        "def test_it(subject, expect): assert (subject, expect) == ('maths', 1)\n",
        head="",
    )
    result, rows = run(anywhere)
    result.assert_outcomes(passed=1)
    assert not rows and "subject:" not in result.stdout.str()


def test_hypothesis_settings_of_a_project_are_its_own_beside_claims(anywhere):
    text = """
from hypothesis import settings
default = settings.default.max_examples

@given(x=st.integers())
def test_mine(x):
    assert settings.default.max_examples == default == test_mine._hypothesis_internal_use_settings.max_examples

@given(x=st.integers())
def test_claim(x, expect):
    assert test_claim._hypothesis_internal_use_settings.max_examples == 15
    assert test_claim._hypothesis_internal_use_settings.deadline is None
    expect(batch(1.0), "made up").always_above(0)
"""
    write(anywhere, "test_mine.py", text)
    result, [row] = run(anywhere)
    result.assert_outcomes(passed=2)
    assert (row["verdict"], row["profile"]) == ("holds", "default")
    result, [row] = run(anywhere, "--hypothesis-profile=fast", "-k", "claim")
    assert (row["verdict"], row["profile"]) == ("refuted", "fast"), "with fewer examples, as the claim itself asserts"


# Claims in a project of one's own


def test_a_claim_is_known_by_its_fixture_or_its_mark(anywhere):
    marked = '@pytest.mark.claim\ndef test_marked():\n    """What is marked."""\n    assert 1 + 1 == 3\n'
    write(anywhere, "my_claims/test_heads.py", CLAIM + marked + "def test_plain(): assert 1 + 1 == 2\n")
    result, rows = run(anywhere, "my_claims", "--strict-markers")
    result.assert_outcomes(passed=2, failed=1)
    assert [(row["claim_id"], row["verdict"]) for row in rows] == [
        ("my_claims/heads/twos", "holds"),
        ("my_claims/heads/marked", "refuted"),
    ]
    assert {row["chapter"] for row in rows} == {"my_claims"}
    lines = result.stdout.str()
    assert lines.count("subject: ") == 1 and lines.index("collected 3 items") < lines.index("subject: ")
    assert str(anywhere.path / "circuit-claims-report/report.html") in lines


def test_the_ids_of_ones_own_claims_do_not_depend_on_the_folder_that_pytest_is_started_in(anywhere, monkeypatch):
    anywhere.makeini("[pytest]\n")
    write(anywhere, "my_claims/test_heads.py", CLAIM)
    monkeypatch.chdir(anywhere.path / "my_claims")
    result = anywhere.runpytest_inprocess("-p", "no:cacheprovider", "--import-mode=importlib", "--report-dir", "../out")
    assert result.ret == 0
    (row,) = json.loads((anywhere.path / "out/claims.json").read_text())["rows"]
    assert row["claim_id"] == "my_claims/heads/twos"


def test_two_claims_of_ones_own_with_one_id_are_refused(anywhere):
    write(anywhere, "mine/test_x.py", CLAIM)
    write(anywhere, "mine/x.py", CLAIM)
    result, rows = run(anywhere, "mine/test_x.py", "mine/x.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR and not rows
    assert "two claims have the id 'mine/x/twos'" in result.stderr.str()


def test_in_several_processes_claims_are_known_wherever_they_lie(anywhere):
    write(anywhere, "mine/test_heads.py", CLAIM + "def test_plain(): assert 1 + 1 == 2\n")
    result, [row] = run(anywhere, "mine", "-n", "2")
    result.assert_outcomes(passed=2)
    assert (row["claim_id"], row["verdict"]) == ("mine/heads/twos", "holds")
    assert result.stdout.str().count("subject: ") == 1


# Options


OTHER = """
def pytest_addoption(parser):
    parser.addoption("--seed", default="none", help="another one's")
    parser.addoption("--device", default="none", help="another one's")
"""
SEEDS = """
def test_seed(expect, pytestconfig):
    expect(sizes(2, 2, 2), "made up").above(1)
    open("seeds.txt", "w").write(f"{pytestconfig.getoption('--seed')} {pytestconfig.getoption('--cc-seed')}")
"""


@pytest.mark.parametrize("where", ["conftest.py", "other.py"])
def test_an_option_that_another_plugin_has_too_is_ours_by_its_long_name(anywhere, where):
    write(anywhere, where, OTHER, head="")
    write(anywhere, "test_seed.py", SEEDS)
    plugin = ["-p", "other"] if where == "other.py" else []
    result = anywhere.runpytest_subprocess(*plugin, "--seed=theirs", "--cc-seed=5", "--prompts=40")
    result.assert_outcomes(passed=1)
    assert (anywhere.path / "seeds.txt").read_text() == "theirs 5"
    (row,) = json.loads((anywhere.path / "circuit-claims-report/claims.json").read_text())["rows"]
    assert row["seed"] == 5
    assert "seed 5, 40 to 960 a verdict" in result.stdout.str()


@pytest.mark.parametrize("given", [("--seed=5",), ("--cc-seed=5",), ("--seed", "5")])
def test_where_no_other_has_it_both_names_do(anywhere, given):
    write(anywhere, "test_seed.py", CLAIM)
    result, [row] = run(anywhere, *given)
    assert result.ret == 0 and row["seed"] == 5


def test_a_wrong_number_is_refused_by_either_name(anywhere):
    write(anywhere, "test_seed.py", CLAIM)
    for option in ("--cc-prompts=3", "--prompts=3"):
        result, rows = run(anywhere, option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR and not rows
        assert "--prompts must be at least 30" in result.stderr.str()


def test_a_folder_after_subject_is_no_folder_of_tests(anywhere, tmp_path):
    """Its conftest is not read; and where pytest takes it into account for its root, no id changes with that."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/conftest.py").write_text("raise RuntimeError('this is a model')")
    write(anywhere, "mine/test_heads.py", CLAIM)
    result, [row] = run(anywhere, "mine", "--subject", str(tmp_path / "model"))
    assert result.ret == 0 and row["claim_id"] == "mine/heads/twos" and row["subject"] == str(tmp_path / "model")
