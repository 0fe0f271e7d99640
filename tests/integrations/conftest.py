"""Tests here run in the environments that `environments.py` makes, and are not seen elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob = [] if os.environ.get("TAMIS_INTEGRATION") else ["test_*.py"]


@pytest.fixture(scope="module")
def url(proxy_folder: Path) -> Iterator[str]:
    """`tamis serve` as a process of its own, with the default proxy."""
    from tests.service.http.app_kit import wait_until
    from tests.service.http.test_serve import answers, free_port, started

    port = free_port()
    process = started(port)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url) or process.poll() is not None, 600)
        assert process.poll() is None, process.stderr.read()
        yield url
    finally:
        process.terminate()
        process.wait(60)
