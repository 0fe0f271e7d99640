"""`--method-folder DIR`: methods of another folder in place of those that ship, for one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.compressors import methods, registry


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--method-folder", metavar="DIR", help="find methods in this folder")


def pytest_configure(config: pytest.Config) -> None:
    if folder := config.getoption("--method-folder"):
        registry.METHODS.folder = Path(folder)
        methods.__path__.append(folder)
