"""The files that the repository's host reads: the workflow of CI and the templates of issues."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


def test_every_folder_of_tests_is_in_one_shard():
    named = " ".join(WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["shard"]).split()
    there = {path.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) == len(set(named))
    assert {Path(name).name for name in named} >= there
    assert all((ROOT / name).is_dir() for name in named)


@pytest.mark.parametrize("template", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_a_template_of_issues_has_what_the_host_needs(template):
    read = yaml.safe_load(template.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(read)
    assert all(field["attributes"]["label"] for field in read["body"])


def test_the_citation_is_of_this_version_and_licence():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["title"], cited["version"], cited["license"]) == (project["name"], project["version"], project["license"])
