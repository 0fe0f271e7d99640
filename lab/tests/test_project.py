"""The lab's package: everything on disk is in it, and tamis knows what it is asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tamis.compressors.registry import LAB_METHODS, METHODS, method_class, method_names
from tamis.probes import pooling
from tamis.probes.pooling import POOLINGS, Pooling
from tests.import_graph import lab_files

LAB = Path(__file__).parents[1]
PROJECT = tomllib.loads((LAB / "pyproject.toml").read_text("utf-8"))
POINTS = PROJECT["project"]["entry-points"]


def test_every_package_on_disk_is_listed():
    on_disk = {path.parent for path in lab_files() if path.name == "__init__.py"}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert {
        LAB / name.replace(".", "/").removeprefix("tamis_lab").lstrip("/") for name in listed
    } == (on_disk)
    assert {path.parent for path in lab_files()} == on_disk


def test_it_has_the_version_of_tamis_and_needs_that_one():
    tamis = tomllib.loads((LAB.parent / "pyproject.toml").read_text("utf-8"))["project"]
    version = PROJECT["project"]["version"]
    assert version == tamis["version"]
    assert any(want.endswith(f"=={version}") for want in PROJECT["project"]["dependencies"])


def test_tamis_names_all_methods_and_poolings_of_the_lab_where_it_is_not_installed():
    assert set(POINTS["tamis.methods"]) == set(LAB_METHODS) == set(METHODS._elsewhere)
    assert set(POINTS["tamis.poolings"]) == set(POOLINGS._elsewhere)
    assert pooling.DEFAULT_POOLING in POOLINGS.own_names()


@pytest.mark.parametrize("name", LAB_METHODS)
def test_a_method_is_found_with_its_paper(name: str):
    assert name in method_names(None)
    assert METHODS.package_of(name) == "tamis-lab"
    assert METHODS.info(name) == method_class(name).info
    assert METHODS.info(name).source


@pytest.mark.parametrize("name", POINTS["tamis.poolings"])
def test_a_pooling_is_found(name: str):
    assert issubclass(POOLINGS.load(name), Pooling)
