"""`--selector-folder DIR`: selectors of another folder in place of those that ship, for one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis_lab.methods import selectors
from tamis_lab.methods.kv_search import registry as selector_registry


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--selector-folder", metavar="DIR", help="find key selectors in this folder")


def pytest_configure(config: pytest.Config) -> None:
    if folder := config.getoption("--selector-folder"):
        selector_registry.SELECTORS.folder = Path(folder)
        selectors.__path__.append(folder)
