"""OpenMP settings that the command line sets for torch's threads, as OpenMP reports them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LOAD = """
import ctypes, importlib.util
from pathlib import Path
import tamis.service.cli.main
for library in Path(importlib.util.find_spec("torch").origin).parent.glob("lib/lib*omp*"):
    ctypes.CDLL(str(library))
"""
"""The command line, then torch's OpenMP without torch, which takes a second and more to load."""


def spins(**given: str) -> int:
    """How often torch's OpenMP spins before it sleeps, once the command line is loaded."""
    around = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=around | {"OMP_DISPLAY_ENV": "verbose"} | given,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    setting = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not setting:
        pytest.skip("this torch has an OpenMP that does not say")
    return int(setting[0].partition("=")[2].strip().strip("'"))


def test_threads_spin_for_a_while_and_then_sleep_unless_the_user_says_otherwise() -> None:
    assert spins() == 3000
    assert spins(GOMP_SPINCOUNT="7") == 7
    assert spins(OMP_WAIT_POLICY="PASSIVE") == 0
