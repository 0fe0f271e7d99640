"""What the command line tells the threads of torch: it is OpenMP itself that answers here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def policy(**given: str) -> str:
    """`OMP_WAIT_POLICY` as the OpenMP library of torch has it, once the command line is loaded."""
    around = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import tamis.service.cli.main, torch; torch.ones(9).sum()"],
        env=around | {"OMP_DISPLAY_ENV": "true"} | given,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    if not said:
        pytest.skip("this torch has an OpenMP that does not say")
    return said[0].partition("=")[2].strip().strip("'")


def test_threads_that_wait_sleep_unless_the_user_says_otherwise() -> None:
    assert policy() == "PASSIVE"
    assert policy(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
