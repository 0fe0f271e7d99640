"""What is released is what the tree holds, and a release that is not is refused with the reason."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from tests import release

pytestmark = pytest.mark.slow
ROOT = release.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_source_distribution_builds_the_wheel_that_holds_every_file(dist: Path, tmp_path: Path):
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    release.check_source(source, release.check_wheel(wheel), tmp_path)


@pytest.mark.parametrize(
    ("drop", "add", "says"),
    [
        ("tamis/service/http/web/index.html", None, "lacks.*index.html"),
        (None, "tamis/tests/test_a.py", "holds.*test_a"),
        ("LICENSE", None, "lacks the licence"),
    ],
)
def test_a_wheel_with_a_file_too_few_or_too_many_is_refused(dist, tmp_path, drop, add, says):
    (wheel,) = dist.glob("*.whl")
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(other, "w") as made:
        for name in whole.namelist():
            if not (drop and name.endswith(drop)):
                made.writestr(name, whole.read(name))
        if add:
            made.writestr(add, "")
    with pytest.raises(release.Broken, match=says):
        release.check_wheel(other)


@pytest.mark.parametrize("licence", ["AGPL-3.0-only", "GNU General Public License v3", "not named"])
def test_a_licence_that_binds_its_users_is_refused(licence):
    assert "| a | 1 | MIT |" in release.check_licences({"a": ["1", "MIT"]})
    with pytest.raises(release.Broken, match="licences"):
        release.check_licences({"a": ["1", "MIT"], "b": ["1", licence]})


def test_workflows_run_what_is_run_here():
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    steps = [step.get("run", "") for job in ci["jobs"].values() for step in job["steps"]]
    assert "bash .ci/run" in steps
    versions = ci["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert PROJECT["project"]["requires-python"] == f">={versions[0]}"
    for file in sorted((ROOT / ".github/workflows").glob("*.yml")):
        told = yaml.safe_load(file.read_text("utf-8"))
        assert told["permissions"] == {"contents": "read"}, file
        makes = [s["run"] for job in told["jobs"].values() for s in job["steps"] if "run" in s]
        for line in makes:
            if line.startswith("make "):
                assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text("utf-8")


def test_every_extra_is_spoken_of_or_one_of_the_developers():
    """An extra that nobody can find might as well not be there."""
    told = "".join(
        page.read_text("utf-8") for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    )
    told += "".join(f.read_text("utf-8") for f in (ROOT / "service").rglob("*.py"))
    extras = set(PROJECT["project"]["optional-dependencies"]) - {"dev", "docs"}
    assert [
        name for name in sorted(extras) if f"{name}]" not in told and f"{name}," not in told
    ] == []
