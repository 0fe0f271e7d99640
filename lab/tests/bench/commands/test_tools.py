"""The command `tamis lab bench tools`: tables, files, and what it refuses; tokens are words."""

from __future__ import annotations

import json

import pytest

from lab.tests.peers.kit import tokenizer_folder
from tests.service.cli.cli_kit import tamis


@pytest.fixture
def bench(tmp_path):
    """The command with a tokenizer for which no model is needed."""
    return ("lab", "bench", "tools", "--proxy", tokenizer_folder(tmp_path))


def test_tables_and_files_are_of_the_same_rows(bench, tmp_path):
    rows_file, png = tmp_path / "rows.jsonl", tmp_path / "kinds.png"
    words = (*bench, "--kinds", "tables,search", "--limit", 2, "--ratio", ".3,.5")
    words += ("--against", "head_tail", "--results", rows_file)
    done = tamis(*words, "--plot", png)
    assert done.exit_code == 0, done.stderr
    assert "30% of the tokens, 4 outputs" in done.stdout
    assert "tamis lexical" in done.stdout
    assert "search (2)" in done.stdout
    text = rows_file.read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 4 * 2 * 2
    report = json.loads(tamis(*words, "--json").stdout)
    assert rows_file.read_text("utf-8") == text
    assert list(report["ratios"]) == ["0.3", "0.5"]
    assert report["files"]["tables"]["tools"]["psql"].startswith("psql")
    assert len(report["files"]["tables"]["sha256"]) == 64
    lost = report["ratios"]["0.3"]["compressors"]["head_tail"]
    mine = [row for row in rows if (row["compressor"], row["ratio"]) == ("head_tail", 0.3)]
    assert lost["gold"] - round(lost["gold_kept"]["value"] * lost["gold"]) == sum(
        len(row["gold_lost"]) for row in mine
    )
    assert png.read_bytes().startswith(b"\x89PNG")


def test_outputs_of_your_own_are_measured(bench, tmp_path):
    text = "".join(f"step {i} went well\n" for i in range(30)) + "the pump broke\n"
    row = {
        "id": "1",
        "question": "What broke?",
        "text": text,
        "gold": [[len(text) - 15, len(text) - 1]],
    }
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    done = tamis(*bench, "--data", tmp_path, "--ratio", ".3", "--against", "bm25_lines")
    assert done.exit_code == 0, done.stderr
    assert "own (1)" in done.stdout
    assert "1.000" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ratio", "0"), "a share is above 0 and at most 1"),
        (("--ratio", "1.5"), "a share is above 0 and at most 1"),
        (("--ratio", "many"), "give numbers with commas"),
        (("--kinds", "songs"), "there is no kind 'songs'; there are: applogs"),
        (("--against", "magic"), "there is no compressor 'magic' here; there are: head_tail"),
        (("--method", "magic"), "magic"),
        (("--data", "/no/such"), "has no labelled outputs"),
        (("--plot", "x.txt"), "draw a .png"),
    ],
)
def test_what_cannot_be_done_is_refused_with_code_2(bench, words, message):
    done = tamis(*bench, "--limit", 1, *words)
    assert done.exit_code == 2
    assert message in done.stderr
