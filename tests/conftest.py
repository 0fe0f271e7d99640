"""The real models, for the tests that need them: installed once, into the user's own cache."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import zoo
from tamis.service.http.runtime.memory import (
    collect_rarely,
    freeze_startup_objects,
    give_memory_back,
    limit_heaps,
)

# a property holds or fails however busy the machine is
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "text", "compressors", "retrieval", "service")
SOURCES = (*FOLDERS, "tests", "deploy", "pyproject.toml", "README.md", "LICENSE")


MOST_GROWTH = 200 << 20
"""Bytes by which a process of tests may grow until what files left behind is collected."""
_resident_bytes = 0
limit_heaps()  # each of hundreds of servers starts threads
collect_rarely()


def pytest_collection_finish() -> None:
    """Nothing that was imported goes away; to walk it took half a second each time."""
    global _resident_bytes
    gc.collect()
    freeze_startup_objects()
    _resident_bytes = resident_bytes()


@pytest.fixture(autouse=True, scope="module")
def nothing_kept() -> Iterator[None]:
    """What a file's tests had loaded or computed once goes with them: gigabytes."""
    global _resident_bytes
    yield
    for name, module in list(sys.modules.items()):
        if name in ("tamis.service.api.compress", "tamis.service.api.rerank"):
            module._built.clear()
        elif name.startswith(("tests.", "agents.tests.")):
            for value in vars(module).values():
                if isinstance(value, _lru_cache_wrapper) and value.__module__ == name:
                    value.cache_clear()
    # models and what was built over them refer to each other, so they go when they are collected
    if resident_bytes() > _resident_bytes + MOST_GROWTH:
        give_memory_back()
        _resident_bytes = resident_bytes()


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not tell."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


@pytest.fixture(scope="session")
def proxy_folder() -> Path:
    """The default proxy's folder. Tests that use it are marked `model`."""
    return _installed("smollm2-135m")


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The sentence encoder's folder. Tests that use it are marked `model`."""
    return _installed("minilm-l6")


@pytest.fixture(scope="session")
def rank_encoder_folder() -> Path:
    """The folder of the encoder of many languages. Tests that use it are marked `model`."""
    return _installed("e5-small")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Labelled records beside the repository. Tests that use it are marked `data`."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.is_dir():
        pytest.fail("there is no ../shared/data; leave these tests out with -m 'not data'")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One core for tiny models: beside other work, two threads took 25 times as long as one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both distributions, built from a copy, so that no stale build folder can lend them files."""
    home = tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, home / name)
    words = ["-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "dist"


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples in it, and nothing of the sources."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _installed(name: str) -> Path:
    try:
        return zoo.locate(name)
    except ProxyMissing:
        return zoo.pull(name)
