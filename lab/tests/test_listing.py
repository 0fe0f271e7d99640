"""`tamis lab kinds`: what benchmarks compare, with its source."""

from __future__ import annotations

import json

from tamis_lab.listing import KINDS
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


def test_an_unknown_kind_is_refused_with_those_there_are():
    done = tamis("lab", "kinds", "--kind", "guess")
    assert done.exit_code == 2
    assert ", ".join(KINDS) in done.stderr
