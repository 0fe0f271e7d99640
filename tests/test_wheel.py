"""What the wheel carries: every module under its installed name, the probes, and nothing else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tamis.compressors.registry import METHODS
from tests.bare_environment import install, make_bare_environment, run_there

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "text", "compressors", "retrieval", "service")


@pytest.fixture(scope="module")
def members(dist: Path) -> set[str]:
    (wheel,) = dist.glob("tamis-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def installed_name(path: Path) -> str:
    """Where a file of the repository lies in the wheel."""
    file = path.relative_to(ROOT).as_posix()
    front = "service/front/"
    return f"tamis/{file.removeprefix(front)}" if file.startswith(front) else f"tamis/{file}"


def sources(pattern: str) -> set[str]:
    return {installed_name(path) for folder in FOLDERS for path in (ROOT / folder).rglob(pattern)}


def test_every_module_of_the_four_folders_is_in_the_wheel(members: set[str]):
    assert sources("*.py") - members == set()


def test_the_trained_probes_and_the_type_markers_are_in_the_wheel(members: set[str]):
    wanted = sources("py.typed") | sources("weights/*.safetensors") | sources("weights/*.json")
    wanted |= sources("sharp/*/adapters.*")
    assert wanted - members == set()
    assert "tamis/py.typed" in members
    assert any(name.startswith("tamis/compressors/weights/") for name in members)


def test_nothing_else_is_in_the_wheel(members: set[str]):
    """No tests, no deployment files, and `tamis` itself once, under its own name."""
    ours = {name for name in members if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in ours} == {"tamis"}
    assert not [name for name in ours if name.startswith(("tamis/service/front/", "tamis/tests/"))]
    assert not [name for name in ours if "test_" in name or "/deploy/" in name]


def test_the_licence_is_in_the_wheel(members: set[str]):
    assert [name for name in members if name.endswith(".dist-info/licenses/LICENSE")]


def test_a_wheel_alone_has_everything_but_its_companions_and_says_where_these_are(
    dist: Path, tmp_path: Path
):
    python = make_bare_environment(tmp_path / "env")
    install(python, *dist.glob("tamis-*.whl"))
    for name in ("tamis_agents", "tamis_lab"):
        assert run_there(python, "python", "-c", f"import {name}").returncode == 1
    rows = json.loads(run_there(python, "tamis", "methods", "--all", "--json").stdout)
    assert {row["package"] for row in rows} == {"tamis"}
    assert {row["name"] for row in rows} == set(METHODS.own_names())
    words = ("--method", "lexical", "--tokenizer", "estimate", "--max-tokens", 9, "--quiet")
    text = "Keys are rotated every 90 days. Rooms are painted in spring."
    kept = run_there(python, "tamis", "compress", "-", "-q", "rotated keys?", *words, stdin=text)
    assert kept.stdout.strip() == "Keys are rotated every 90 days."
    for asked in (("lab",), ("lab", "bench"), ("compress", "-", "-q", "?", "--method", "icr")):
        done = run_there(python, "tamis", *asked, stdin=text)
        assert done.returncode == 2
        assert "pip install ./lab" in " ".join(done.stderr.replace("│", "").split())
    serve = run_there(python, "tamis", "serve", "--upstream", "http://localhost:9", "--port", "0")
    assert (serve.returncode, "pip install ./agents" in serve.stderr) == (2, True)
