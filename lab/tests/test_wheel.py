"""The lab's wheel: all of its modules and data, beside a wheel of tamis that finds it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tamis.compressors.registry import LAB_METHODS
from tests.bare_environment import build_wheel, install, make_bare_environment, run_there
from tests.conftest import dist as dist
from tests.import_graph import lab_files

pytestmark = pytest.mark.slow

LAB = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(LAB, tmp_path_factory.mktemp("lab"))


def test_every_module_and_all_data_are_in_it_and_no_test(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [*lab_files(), LAB / "py.typed"]
    for pattern in ("methods/profiles/*.json", "bench/questions/*.*", "bench/outputs/*.xz"):
        found = list(LAB.glob(pattern))
        assert found, pattern
        files += found
    assert members == {f"tamis_lab/{path.relative_to(LAB).as_posix()}" for path in files}


def test_beside_a_wheel_of_tamis_its_commands_and_methods_are_found(
    wheel: Path, dist: Path, tmp_path: Path
):
    python = make_bare_environment(tmp_path / "env")
    install(python, *dist.glob("tamis-*.whl"))
    install(python, wheel)
    rows = json.loads(run_there(python, "tamis", "methods", "--all", "--json").stdout)
    assert {r["name"] for r in rows if r["package"] == "tamis-lab"} == set(LAB_METHODS)
    for words in (("tamis", "lab"), ("tamis-lab",)):
        shown = run_there(python, *words, "bench", "evidence", "--help")
        assert shown.returncode == 0, shown.stderr
        assert "--budgets" in shown.stdout
    kinds = json.loads(run_there(python, "tamis-lab", "kinds", "--json").stdout)
    assert {"reading", "pattern", "selector", "eviction", "finder"} == {r["kind"] for r in kinds}
