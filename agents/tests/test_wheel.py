"""The wheel of tamis-agents: all of its modules and data, beside a wheel of tamis that finds it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.bare_environment import build_wheel, install, make_bare_environment, run_there
from tests.conftest import dist as dist
from tests.import_graph import agents_files

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(FOLDER, tmp_path_factory.mktemp("agents"))


def test_every_module_and_all_data_are_in_it_and_no_test(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [*agents_files(), FOLDER / "py.typed", FOLDER / "opencode.js"]
    assert members == {f"tamis_agents/{path.relative_to(FOLDER).as_posix()}" for path in files}


def test_beside_a_wheel_of_tamis_its_commands_and_its_gateway_are_found(
    wheel: Path, dist: Path, tmp_path: Path
):
    python = make_bare_environment(tmp_path / "env")
    install(python, *dist.glob("tamis-*.whl"))
    log = "\n".join(f"line {i} of many that say nothing" for i in range(500))
    alone = run_there(python, "tamis", "pipe", stdin=log)
    assert alone.returncode == 2
    assert alone.stdout == log  # what a command printed is not lost
    assert "pip install ./agents" in " ".join(alone.stderr.replace("│", "").split())
    install(python, wheel)
    done = run_there(python, "tamis", "pipe", "--max-tokens", 100, stdin=log)
    assert done.returncode == 0, done.stderr
    assert "omitted" in done.stdout
    ran = run_there(python, "tamis", "run", "--", "python3", "-c", "raise SystemExit(7)")
    assert ran.returncode == 7
    for name in ("estimate", "hook", "mcp", "pipe", "run"):
        shown = run_there(python, "tamis", name, "--help")
        assert shown.returncode == 0, shown.stderr
    opened = "from tamis.service.http.app import create_app; from tamis.service.http.runtime."
    opened += "settings import Settings; create_app(Settings(upstream='not an address'))"
    said = run_there(python, "python", "-c", opened).stderr
    assert "give an address such as https://api.openai.com" in said
