"""What every benchmark stands on: rows that are kept, and what is published of them."""

from __future__ import annotations

import json

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.bench.app import BENCHES, load_bench
from tamis_lab.bench.study import Study, estimate, heading, table, timed
from tamis_lab.options.figures import Chart, draw_charts, marks_by_row

CASES = {"a": 1, "b": 2, "c": 3}


def measured(path, cases=CASES, settings=None):
    """The rows, and the cases that were measured for them."""
    study, asked = Study(results=path), []
    study.keep_rows(settings or {"seed": 0})

    def measure(case):
        asked.append(case)
        return {"square": case**2}

    return study.rows("squares", cases, measure), asked, study


def test_a_row_is_measured_once_and_a_torn_one_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows, asked, study = measured(path, {"a": 1, "b": 2})
    assert rows == [{"key": "a", "square": 1}, {"key": "b", "square": 4}]
    assert study.summary() == "2 rows measured, 0 were there before"
    path.write_bytes(path.read_bytes()[:-3])
    rows, asked, study = measured(path)
    assert (asked, [row["square"] for row in rows]) == ([2, 3], [1, 4, 9])
    assert study.summary() == "2 rows measured, 1 were there before"
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows


def test_rows_of_other_settings_are_refused_and_without_a_file_nothing_is_kept(tmp_path):
    measured(tmp_path / "rows.jsonl")
    with pytest.raises(BadInput, match=r"seed 0 \(now 1\); name another --results"):
        measured(tmp_path / "rows.jsonl", settings={"seed": 1})
    assert measured(None)[1] == measured(None)[1] == [1, 2, 3]


def test_what_is_published_is_tables_or_json_with_what_it_depends_on(capsys):
    shown = table("title", ("name", "share"), [["mine", estimate(HALF)]])
    Study().publish({"figure": 1}, lambda: [shown, "a line"])
    text = capsys.readouterr().out
    assert "+50.0 [10.0, 90.0]" in text
    assert text.endswith("a line\n")
    Study(as_json=True).publish({"figure": float("nan")}, lambda: pytest.fail("no table"))
    found = json.loads(capsys.readouterr().out)
    assert found["figure"] is None
    assert {"command", "versions", "machine", "threads"} < set(found)


HALF = {"difference": 0.5, "low": 0.1, "high": 0.9}


def test_an_interval_is_coloured_by_its_side_of_zero():
    assert estimate(HALF).style == "green"
    assert estimate({"difference": -0.5, "low": -0.9, "high": -0.1}).style == "red"
    assert estimate({"difference": 0.1, "low": -0.1, "high": 0.3}).style == "dim"
    assert (heading("0.1"), heading(300)) == ("10%", "300 tokens")


def test_lines_marks_errors_and_grids_are_drawn(tmp_path):
    marks = marks_by_row(["one", "two"], {"mine": [0.1, None], "other": [0.2, 0.3]})
    assert marks == {"mine": ([0.1], [0]), "other": ([0.2, 0.3], [0, 1])}
    charts = [
        Chart("lines", {"mine": ([1, 10], [0.1, 0.2])}, logs="x", shares="y"),
        Chart("errors", {"mine": ([1, 2], [0.1, 0.2], [[0.1, 0.1], [0.2, 0.2]])}),
        Chart("marks", marks, rows=["one", "two"], shares="x"),
        Chart("grid", cells=[[0.0, 0.7]], marks=[["1", "2 lost"]], rows=["0%"], columns=["a", "b"]),
    ]
    draw_charts(charts, tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_a_call_is_timed_by_the_clock_and_by_the_processor():
    found, ms, cpu_ms = timed(lambda: sum(range(100_000)))
    assert found == 4_999_950_000
    assert 0 < cpu_ms <= ms * 1.5 + 1


@pytest.mark.parametrize("name", BENCHES)
def test_every_benchmark_has_the_shared_options_by_the_same_names(name):
    command = load_bench(name)
    options = {opt for param in command.params for opt in param.opts}
    assert command.help
    assert options & {"--json", "--results"}
    assert not options & {"--png", "--out"} or options & {"--plot", "--results"}
