"""Packages of other people: real metadata and code in a folder that Python looks into."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tamis.probes import plugins

BACKWARDS = """
from tamis.compressors.method import MethodInfo, OrderingMethod


class Backwards(OrderingMethod):
    info = MethodInfo("the last passage first", "a test", kind="ordering")

    def order(self, question, passages, scores):
        return tuple(reversed(range(len(passages))))
"""
BACKWARDS_ENTRY = {"tamis.methods": {"backwards": "tamis_backwards:Backwards"}}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment in which nothing is added to tamis."""
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    forget_plugins()
    yield
    forget_plugins()


def install_package(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    code: str | None,
    entries: Mapping[str, Mapping[str, str]],
) -> None:
    """Installs a package of one module for the rest of a test.

    Args:
        package: the distribution; its module is called the same, with underscores.
        code: of the module; None for a distribution that lost it.
        entries: its entry points by group and name.
    """
    module = package.replace("-", "_")
    home = folder / package
    info = home / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    facts = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nSummary: What {package} adds\n"
    (info / "METADATA").write_text(facts, "utf-8")
    lines = [
        line
        for group, named in entries.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    if code is not None:
        (home / f"{module}.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(home)
    monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.invalidate_caches()
    forget_plugins()


def forget_plugins() -> None:
    """The next who asks reads the metadata again."""
    plugins.find_plugins.cache_clear()


@pytest.fixture
def backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package with a method of ordering, `backwards`, for one test."""
    install_package(tmp_path, monkeypatch, "tamis-backwards", BACKWARDS, BACKWARDS_ENTRY)
    yield
    forget_plugins()
