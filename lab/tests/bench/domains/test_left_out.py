"""`tamis lab bench domains` on a tiny model: a domain is judged by fits that never saw it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.train.lora.examples import example_records
from tamis.probes.errors import BadInput
from tamis_lab.bench.domains import (
    FREE,
    LeftOutFits,
    Sides,
    domain_figures,
    kept_gold,
    method_scores,
    read_domains,
)
from tamis_lab.datasets.domains import domain_of, find_domain_files
from tamis_lab.datasets.record_files import RecordFile
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.service.cli.cli_kit import tamis

SETS = {"squad2": "facts", "hotpotqa": "hops", "fever": "claims", "own": "own", "manual": "manuals"}


def ignore(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("domains")
    for side in ("train", "dev"):
        (place / side).mkdir()
    for name in SETS:
        rows = example_records(name)
        if name == "manual":
            rows = [row | {"gold_source": "heading"} for row in rows]
        write(place / "train" / f"{name}.jsonl", rows)
    write(place / "dev" / "hotpotqa.jsonl", example_records("dev")[:5])
    write(place / "dev" / "unheard.jsonl", example_records("other")[:5])
    tiny.save("llama", place / "llama")
    return place


@pytest.fixture(scope="module")
def cases(folder):
    sides = Sides([folder / "train"], 12, [folder / "dev"], 5)
    return read_domains(tiny.proxy(), 2, sides, folder / "readings", ignore)


def test_the_domain_of_a_set_is_known_by_its_name_or_by_its_gold(folder):
    found = find_domain_files([folder / "train"])
    assert {path.name.split(".")[0]: domain for domain, (path,) in found.items()} == SETS
    assert domain_of(RecordFile(folder / "dev" / "hotpotqa.jsonl")) == "hops"
    with pytest.raises(BadInput, match="holds no labelled records"):
        find_domain_files([folder / "llama"])


def test_sets_to_judge_are_of_domains_that_something_is_fitted_on(cases):
    fitted, judged = cases
    assert {case.source for case in judged} == {"dev/hotpotqa"}
    assert len(judged) == 5
    assert {case.source for case in fitted} == {
        "squad2",
        "train/hotpotqa",
        "fever",
        "own",
        "manual",
    }


def test_a_fit_without_a_domain_does_not_depend_on_its_labels(cases):
    fitted, _ = cases
    due = LeftOutFits(fitted).probe_without("hops").weights
    swapped = [
        replace(case, gold=case.gold.roll(1)) if case.domain == "hops" else case for case in fitted
    ]
    found = LeftOutFits(swapped)
    for name, weights in found.probe_without("hops").weights.items():
        assert torch.equal(weights, due[name]), name
    other = found.probe_without("facts").weights["first"]
    assert not torch.equal(other, LeftOutFits(fitted).probe_without("facts").weights["first"])


def test_gold_is_kept_where_the_gold_unit_is_scored_best_and_fits(cases):
    case = cases[0][0]
    best = case.gold.float()
    assert kept_gold(case, best, 1.0) == (1, 1)
    assert kept_gold(case, -best, 0.3) == (0, 1)


def test_the_figures_have_every_domain_and_the_distance_to_the_best_free_method(cases):
    fitted, judged = cases
    (figures,) = domain_figures(fitted, [*fitted, *judged], [0.4], ignore).values()
    assert set(figures["domains"]) == set(SETS.values())
    for domain in figures["domains"].values():
        free = max(domain["kept"][name] for name in FREE if name in domain["kept"])
        for name, regret in domain["regret"].items():
            assert regret == pytest.approx(max(0, free - domain["kept"][name]), abs=1e-4)
    assert set(figures["domains"]["hops"]["sets"]) == {"train/hotpotqa", "dev/hotpotqa"}
    assert figures["misses_of_best_free"]["default"] is None or (
        figures["misses_of_best_free"]["default"] >= 0
    )


def test_with_cosines_the_default_is_another_than_without(cases):
    fitted, _ = cases
    random = torch.Generator().manual_seed(0)
    told = [
        replace(
            case, cosines=case.gold.float() + 0.1 * torch.rand(len(case.gold), generator=random)
        )
        for case in fitted
    ]
    probe = LeftOutFits(told).probe_without("facts")
    case = next(case for case in told if case.domain == "facts")
    scores = method_scores(probe, case)
    assert not torch.equal(scores["default"], scores["without encoder"])
    assert case.gold[scores["default"].argmax()]


def test_too_few_domains_are_refused(cases):
    some = [case for case in cases[0] if case.domain in ("facts", "hops")]
    with pytest.raises(BadInput, match=r"there are 2 domains \(facts, hops\).*give more sets"):
        LeftOutFits(some)


def test_the_command_prints_the_table_and_writes_figures_and_plot(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path))  # no encoder there
    words = ("lab", "bench", "domains", "--data", folder / "train", "--judge", folder / "dev")
    words += ("--proxy", folder / "llama", "--layers", 2, "--limit", 8, "--budgets", "0.4")
    words += ("--cache", folder / "readings")
    done = tamis(*words)
    assert done.exit_code == 0, done.output
    for word in ("40% of the tokens", "manuals", "largest regret", "misses / best free's"):
        assert word in done.stdout
    report = json.loads(tamis(*words, "--json", "--plot", tmp_path / "d.png").stdout)
    assert set(report["shares"]["0.4"]["domains"]) == set(SETS.values())
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_without_gold_is_passed_over(folder, tmp_path):
    rows = [record("n", "Q?", doc("Nothing."), doc("Here."))]
    write(tmp_path / "empty.jsonl", rows)
    sides = Sides([folder / "train", tmp_path], 3)
    fitted, _ = read_domains(tiny.proxy(), 2, sides, folder / "readings", ignore)
    assert "empty" not in {case.source for case in fitted}
