"""Clients for Node against `tamis serve`, a process of its own with the default proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients/typescript"
SCRIPT = Path(__file__).parent / "javascript/clients.test.mjs"
HOME = Path(sys.prefix)
pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]


def run(folder: Path, *command: str | Path, **environ: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def our_package(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Our own client, packed as it is published and installed beside the others."""
    folder = tmp_path_factory.mktemp("package")
    leave = shutil.ignore_patterns("build", "dist")
    shutil.copytree(PACKAGE, folder / "typescript", ignore=leave, symlinks=True)
    if not (PACKAGE / "node_modules").exists():
        run(folder / "typescript", "npm", "ci", "--no-audit", "--no-fund")
    run(folder / "typescript", "npm", "pack", "--pack-destination", folder)
    (packed,) = folder.glob("*.tgz")
    run(HOME, "npm", "install", "--no-save", "--no-audit", "--no-fund", packed)


def test_every_client(our_package: None, url: str):
    shutil.copy(SCRIPT, HOME)
    assert "# fail 0" in run(HOME, "node", "--test", HOME / SCRIPT.name, TAMIS_URL=url)
