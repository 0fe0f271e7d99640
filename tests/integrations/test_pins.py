"""An environment that leans on another must not fall through to the other's versions."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path


def test_the_pinned_versions_are_what_is_tested():
    file = Path(__file__).parent / f"{os.environ['TAMIS_INTEGRATION']}.txt"
    lines = file.read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    assert pins
    assert {package: version(package) for package in pins} == pins
