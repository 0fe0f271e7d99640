"""`tamis lab kinds`: what benchmarks compare, with its source."""

from __future__ import annotations

import json
import subprocess
import sys

from tamis_lab.listing import KINDS, PAGE, methods_page
from tamis_lab.methods.registry import PATTERNS, READINGS
from tests.service.cli.cli_kit import tamis


def test_readings_are_listed_with_their_papers():
    rows = json.loads(tamis("lab", "kinds", "--kind", "reading", "--json").stdout)
    assert [row["name"] for row in rows] == READINGS.names()
    assert {row["kind"] for row in rows} == {"reading"}
    papers = {row["name"]: row["source"] for row in rows}
    assert papers["value_mass"] == "arXiv 2004.10102"
    assert papers == {name: READINGS.load(name).info.source for name in READINGS.names()}


def test_patterns_are_listed_with_their_papers():
    rows = json.loads(tamis("lab", "kinds", "--kind", "pattern", "--json").stdout)
    assert {row["name"]: row["source"] for row in rows} == {
        name: PATTERNS.load(name).info.source for name in PATTERNS.names()
    }
    assert "power" in tamis("lab", "kinds", "--kind", "pattern").stdout


def test_every_kind_is_listed():
    rows = json.loads(tamis("lab", "kinds", "--json").stdout)
    assert {row["kind"] for row in rows} == set(KINDS)
    assert all(row["summary"] and row["source"] for row in rows)


def test_a_list_of_kinds_imports_no_torch():
    code = """if True:
        import sys
        from tamis_lab.listing import KINDS, rows_of
        assert all(list(rows_of(kind)) for kind in KINDS)
        assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_kind_is_refused_with_those_there_are():
    done = tamis("lab", "kinds", "--kind", "guess")
    assert done.exit_code == 2
    assert ", ".join(KINDS) in done.stderr


def test_the_page_of_methods_is_what_registries_and_docstrings_say():
    """`python -m tamis_lab.listing` writes it."""
    page = methods_page()
    assert page == PAGE.read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| [`")]
    names = {row["name"] for row in json.loads(tamis("lab", "kinds", "--json").stdout)}
    assert all(any(line.startswith(f"| [`{name}`]") for line in rows) for name in names)
    assert next(line for line in rows if "`ehpc`" in line).count("a quarter of the layer's heads")
    assert {line.count(" | ") for line in rows} == {5}
