"""An environment that leans on another must not fall through to the other's versions."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from tests.integrations.environments import INTEGRATIONS

NAME = os.environ["TAMIS_INTEGRATION"]


def test_the_pinned_versions_are_what_is_tested():
    pins, modules = INTEGRATIONS.pins(NAME), Path(sys.prefix) / "node_modules"
    assert pins
    found = {
        (origin, package): version(package)
        if origin != "npm"
        else json.loads((modules / package / "package.json").read_text("utf-8"))["version"]
        for origin, package in pins
    }
    assert found == pins
