"""Timing: the work is as large as asked, and the figures are of the work that was done."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tamis.probes.errors import BadInput
from tamis.service.bench.speed import workload
from tamis.service.cli.bench import app
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

PROSE = "Cats sit on mats. Dogs run. Emus hop very far over the hills. It rains.\n\nNew day. Sun.\n"


@pytest.fixture(scope="module")
def proxy():
    return tiny.proxy()


@pytest.mark.parametrize(("tokens", "each"), [(10, 1), (300, 40), (1000, 100), (100, 5000)])
def test_a_workload_has_the_tokens_asked_for_in_passages_of_whole_sentences(proxy, tokens, each):
    found = workload(PROSE, proxy, tokens, each)
    longest = max(proxy.layout.tokens.count_many(PROSE.split(". ")))
    sizes = proxy.layout.tokens.count_many([passage.text for passage in found])
    # a passage tokenised alone may differ by a token at either end
    slack = 2 * len(found) + longest
    assert tokens - slack <= sum(sizes) <= tokens + slack
    assert all(size <= each + longest + 2 for size in sizes)
    assert all(passage.text in PROSE for passage in found)
    assert [passage.id for passage in found] == [str(i) for i in range(len(found))]


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_text_without_words_is_refused(proxy, text):
    with pytest.raises(BadInput, match="empty"):
        workload(text, proxy, 10, 5)


def run(tmp_path, *words):
    (tmp_path / "prose.txt").write_text(PROSE)
    folder = tmp_path / "llama"
    if not folder.exists():
        tiny.save("llama", folder)
    given = ("speed", "--text", tmp_path / "prose.txt", "--proxy", folder, "--rounds", 1, *words)
    return CliRunner().invoke(app, [str(word) for word in given])


def test_every_size_is_a_row_and_its_speeds_follow_from_its_times(tmp_path):
    done = run(tmp_path, "--tokens", "200,400", "--passage-tokens", 50, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 2
    assert rows[0]["tokens"] < rows[1]["tokens"]
    assert rows[0]["passages"] < rows[1]["passages"]
    for row in rows:
        assert row["share_of_bare"] == pytest.approx(row["bare_ms"] / row["pipeline_ms"], abs=0.05)
        ratio = row["pipeline_tokens_s"] / row["bare_tokens_s"]
        assert ratio == pytest.approx(row["share_of_bare"], abs=0.05)
        assert set(row["stages_ms"]) >= {"segment", "read", "select", "total"}
        assert row["peak_mb"] > 0


def test_the_table_has_a_row_a_size(tmp_path):
    done = run(tmp_path, "--tokens", "100")
    assert done.exit_code == 0, done.output
    assert "share of bare" in done.stdout


@pytest.mark.parametrize("words", [("--tokens", ","), ("--tokens", "many"), ("--tokens", "0")])
def test_sizes_that_are_none_are_exit_code_2(tmp_path, words):
    done = run(tmp_path, *words)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
