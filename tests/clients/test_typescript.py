"""The TypeScript client: its types are those of the service, its own tests, and a real service."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tamis.compressors.registry import layers_needed, load_proxy
from tamis.text.types import CorpusDocument
from tests.retrieval.index.corpora import build_index
from tests.service.http.app_kit import NEEDLE, served

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients/typescript"
NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = [
    pytest.mark.skipif(not (NODE and NPM), reason="no node and npm here"),
    pytest.mark.timeout(600),
]


def run(*command: str | Path, **environ: str) -> str:
    """What a command in the package's folder prints; it has to succeed."""
    done = subprocess.run(
        command,
        cwd=PACKAGE,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package() -> Path:
    """The package with its development tools, as its lock has them, and its tests compiled."""
    lock = hashlib.sha256((PACKAGE / "package-lock.json").read_bytes()).hexdigest()
    stamp = PACKAGE / "node_modules/.made-of"
    if not stamp.exists() or stamp.read_text("utf-8") != lock:
        run("npm", "ci", "--no-audit", "--no-fund")
        stamp.write_text(lock, "utf-8")
    shutil.rmtree(PACKAGE / "build", ignore_errors=True)
    run("npx", "--no-install", "tsc", "-p", "tsconfig.json")
    return PACKAGE


@pytest.fixture(scope="module")
def service(proxy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("indexes") / "docs"
    rooms = CorpusDocument("rooms", "Rooms are painted in spring.")
    build_index(home, [CorpusDocument("keys", NEEDLE), rooms])
    proxy = load_proxy(proxy_folder, layers_needed("question_rows"))
    with served(proxy, indexes=(f"docs={home}",), retrieve_bytes=1_000_000) as running:
        yield running.url


def test_the_types_are_those_of_the_service(package: Path, tmp_path: Path):
    """`make typescript-types` writes them anew."""
    document = run(sys.executable, "openapi_document.py")
    (tmp_path / "openapi.json").write_text(document, "utf-8")
    made = tmp_path / "openapi.ts"
    run("npm", "run", "--silent", "types", "--", tmp_path / "openapi.json", "--output", made)
    assert made.read_text("utf-8") == (package / "src/openapi.ts").read_text("utf-8")


def test_retries_errors_limits_and_signals(package: Path):
    assert "# fail 0" in run("node", "--test", package / "build/test/client.test.js")


@pytest.mark.model
def test_every_call_to_a_service(package: Path, service: str):
    tests = package / "build/test/service.test.js"
    assert "# fail 0" in run("node", "--test", tests, TAMIS_URL=service)


def test_the_package_has_no_dependency_and_the_version_of_the_service(package: Path):
    import tamis

    about = json.loads((package / "package.json").read_text("utf-8"))
    assert about["version"] == tamis.__version__
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(about)
