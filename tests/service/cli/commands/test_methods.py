"""`tamis methods`: every file of the registry, and no model."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tamis.compressors import registry
from tamis.compressors.registry import DEFAULT, method_info, method_names
from tamis.probes.hub import zoo
from tamis.service.cli.commands.methods import KINDS
from tests.service.cli.cli_kit import tamis


@pytest.fixture(autouse=True)
def nothing_may_be_loaded(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("a model was asked for")

    monkeypatch.setattr(registry, "build_method", refuse)
    monkeypatch.setattr(zoo, "locate", refuse)


def test_json_lists_every_method_with_what_it_needs():
    rows = json.loads(tamis("methods", "--all", "--json").stdout)
    assert sorted(row["name"] for row in rows) == method_names(None)
    for row in rows:
        assert row["kind"] == method_info(row["name"]).kind
        assert row["needs"] == method_info(row["name"]).needs
        assert row["summary"] == method_info(row["name"]).summary
        assert row["source"] == method_info(row["name"]).source
        assert row["package"] == registry.METHODS.package_of(row["name"])


PAPERS = {"ehpc", "infiniretri", "sentinel"}


def test_methods_of_papers_are_listed_on_request_alone_and_reached_by_name():
    listed = {row["name"] for row in json.loads(tamis("methods", "--json").stdout)}
    assert listed == set(method_names(None, research=False))
    assert not listed & {*PAPERS, *registry.LAB_METHODS}
    for name in PAPERS:
        assert name in tamis("methods", name).stdout
    refused = tamis("compress", "-", "-q", "Who?", "--method", "nope", stdin="Ada. Bob.").stderr
    assert "lead, lexical, question_rows (compression); cross, late_interaction" in refused
    assert not any(name in refused for name in PAPERS)


@pytest.mark.parametrize("command", [("compress",), ("rerank",), ("ask-context",), ("index",)])
def test_help_names_no_research(command):
    shown = tamis(*command, "--help").stdout
    assert not any(word in shown for word in (*PAPERS, "retrieved", "--selector", "export"))


def test_every_method_has_a_line_below_its_kind_and_the_default_is_first():
    done = tamis("methods", "--all")
    assert done.exit_code == 0
    starts = [line.split()[0] for line in done.stdout.splitlines() if line[:1].strip()]
    kinds = [at for at, word in enumerate(starts) if word.endswith(":")]
    assert [starts[at] for at in kinds] == ["compression:", "reranking:", "ordering:"]
    assert starts[2] == DEFAULT
    for kind, (start, stop) in zip(KINDS, pairwise([*kinds, len(starts)]), strict=True):
        assert starts[start + 1] == "name"
        assert sorted(starts[start + 2 : stop]) == sorted(
            name for name in method_names(None) if method_info(name).kind == kind
        )


def test_a_kind_lists_its_own_alone():
    for kind in ("compression", "reranking", "ordering"):
        rows = json.loads(tamis("methods", "--all", "--kind", kind, "--json").stdout)
        assert sorted(row["name"] for row in rows) == sorted(method_names(kind))


def test_an_unknown_kind_is_refused_with_those_there_are():
    done = tamis("methods", "--kind", "guess")
    assert done.exit_code == 2
    assert "compression, reranking, ordering" in done.stderr


def test_a_name_shows_its_options_with_what_each_takes_and_does():
    shown = tamis("methods", "ehpc").stdout
    assert "compression" in shown.splitlines()[0]
    for word in ("observed_rows", "a whole number of at least 1", "16", "rows at the prompt's end"):
        assert word in shown
    found = json.loads(tamis("methods", "ehpc", "--json").stdout)
    assert found["needs"] == "proxy"
    assert found["options"][1] == {
        "option": "heads",
        "takes": "a whole number of at least 1, or None",
        "default": None,
        "paper": None,
        "help": "How many needle heads; None is a quarter of a layer's, as 8 of the paper's 32.",
    }
    assert "has no options" in tamis("methods", "lead").stdout
    refused = tamis("methods", "ehcp")
    assert refused.exit_code == 2
    assert "did you mean 'ehpc'" in refused.stderr
