"""Figures of proxies by language: paired, against the best free method, in one tokenizer.

`python -m lab.tests.bench.evidence.test_languages` writes the table of docs/how-to/languages.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab.tests.bench.records import people, write
from tamis.service.api.languages import FILE, best_proxy
from tamis.service.cli.app import build_app
from tamis_lab.bench.evidence import BudgetOutcome, EvidenceTally
from tamis_lab.bench.languages import _cell, _cells, figures_table, language_figures
from tests.service.api.test_languages import TABLE

DOCS = Path(__file__).parents[4] / "docs/how-to/languages.md"
GOLD = [1] * 40


def figures_markdown(report: Mapping[str, Any]) -> str:
    """`figures_table` in Markdown, as in docs/how-to/languages.md."""
    methods = list(next(iter(_cells(report)))[2]["methods"])
    rows = [["language", "budget", *methods], ["---"] * (2 + len(methods))]
    for code, budget, figures in _cells(report):
        cells = (_cell(figures, name).plain.replace("\n", "<br>") for name in methods)
        rows.append([code, f"{float(budget):.0%}", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def outcome(missed):
    """An outcome over 40 records that misses the gold of the first so many."""
    return BudgetOutcome([0] * missed + [1] * (40 - missed), [10] * 40)


@pytest.fixture
def counts():
    found = {
        "first": {0.1: outcome(20), 0.2: outcome(4)},
        "other": {0.1: outcome(5), 0.2: outcome(4)},
        "lexical": {0.1: outcome(10), 0.2: outcome(8)},
        "embedding": {0.1: outcome(8), 0.2: outcome(30)},
    }
    return EvidenceTally(5, GOLD, [100] * 40, found, {name: [1.0] for name in found})


def test_each_proxy_is_compared_with_the_best_free_method_at_that_budget(counts):
    at = language_figures(counts, ["first", "other"])["budgets"]
    assert [at[b]["best_free"] for b in ("0.1", "0.2")] == ["embedding", "lexical"]
    assert at["0.1"]["methods"]["other"]["ahead_of_free"][0] == pytest.approx(3 / 40, abs=1e-4)
    assert at["0.2"]["methods"]["first"]["ahead_of_free"][0] == pytest.approx(4 / 40, abs=1e-4)
    assert at["0.2"]["methods"]["first"]["misses_of_free"] == 0.5


def test_other_proxies_are_compared_with_the_first_with_an_interval(counts):
    at = language_figures(counts, ["first", "other"])["budgets"]
    assert "ahead_of_first" not in at["0.1"]["methods"]["first"]
    difference, low, high = at["0.1"]["methods"]["other"]["ahead_of_first"]
    assert difference == pytest.approx(15 / 40, abs=1e-4)
    assert 0 < low < difference < high
    assert at["0.2"]["methods"]["other"]["ahead_of_first"] == [0, 0, 0]


def test_gold_kept_is_a_share_and_a_method_without_misses_has_no_share_of_them(counts):
    counts.outcomes["lexical"][0.2] = outcome(0)
    at = language_figures(counts, ["first"])["budgets"]["0.2"]
    assert at["methods"]["first"]["gold_kept"] == 0.9
    assert at["methods"]["first"]["misses_of_free"] is None


@pytest.mark.model
def test_the_command_writes_the_figures_that_choose_a_proxy(proxy_folder, encoder_folder, tmp_path):
    for code in ("en", "xx"):
        write(tmp_path / f"faq_{code}.jsonl", people())
    words = ["--data", tmp_path, "--set", "faq", "--languages", "en,xx", "--cache", tmp_path]
    given = ["lab", "bench", "languages", *words, "--proxies", "smollm2-135m", "--limit", "4"]
    done = CliRunner().invoke(build_app(), [*map(str, given), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert set(report["languages"]) == {"en", "xx"}
    assert report["tokens_of"] == "smollm2-135m"
    kept = report["languages"]["en"]["budgets"]["0.2"]["methods"]
    assert set(kept) == {"smollm2-135m", "lexical", "embedding", "bm25+minilm"}
    assert best_proxy("en") == "smollm2-135m"


def test_a_missing_set_is_named_with_the_existing_ones(tmp_path):
    write(tmp_path / "faq_en.jsonl", people())
    words = [
        "lab",
        "bench",
        "languages",
        "--data",
        str(tmp_path),
        "--set",
        "faq",
        "--languages",
        "fr",
    ]
    done = CliRunner().invoke(build_app(), words)
    assert done.exit_code == 2
    assert "faq_fr" in done.stderr
    assert "faq_en" in done.stderr


def test_the_docs_have_the_shipped_figures():
    assert figures_markdown(json.loads(FILE.read_text("utf8"))) in DOCS.read_text("utf8")


def test_the_table_has_a_row_a_language_and_budget_and_a_column_a_method():
    found = figures_table(TABLE)
    assert found.row_count == 4
    assert [column.header for column in found.columns][2:] == list(
        TABLE["languages"]["en"]["budgets"]["0.2"]["methods"]
    )
    assert "| zh | 20% | 60.0<br>+10.0 [0.0, 20.0] |" in figures_markdown(TABLE)


if __name__ == "__main__":
    head, _, rest = DOCS.read_text("utf8").partition("<!-- figures -->\n")
    tail = rest.partition("<!-- end -->")[2]
    table = figures_markdown(json.loads(FILE.read_text("utf8")))
    DOCS.write_text(f"{head}<!-- figures -->\n{table}<!-- end -->{tail}", "utf8")
