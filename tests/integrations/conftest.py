"""Tests here run in the environments that `environments.py` makes, and are not seen elsewhere.

But for those that need no framework beyond what the development environment has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

EVERYWHERE = ("test_positions.py",)
OTHERS = [path.name for path in Path(__file__).parent.glob("test_*.py")]
collect_ignore = (
    [] if os.environ.get("TAMIS_INTEGRATION") else [n for n in OTHERS if n not in EVERYWHERE]
)


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
