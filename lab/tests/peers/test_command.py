"""The command `tamis lab bench peers`: table, JSON, plot, resumption, and what it refuses."""

from __future__ import annotations

import json

import pytest

from lab.tests.peers.kit import people_folder, tokenizer_folder
from tests.service.cli.cli_kit import tamis


@pytest.fixture
def options(tmp_path):
    """Options with which no model is needed."""
    return (
        *(
            "lab",
            "bench",
            "peers",
            "--data",
            people_folder(tmp_path),
            "--proxy",
            tokenizer_folder(tmp_path),
        ),
        *("--sets", "people", "--cases", 3, "--budget", 0.25, "--threads", 1),
        *("--out", tmp_path / "rows.jsonl"),
    )


def test_a_table_then_json_and_a_plot_of_the_same_rows(options, tmp_path):
    peers = ("--peers", "truncation,bm25")
    done = tamis(*options, *peers)
    assert done.exit_code == 0, done.stderr
    assert "BM25" in done.stdout
    assert "No faster one keeps as much" in done.stdout
    assert "6 rows measured, 0 were there before" in done.stderr
    plot = tmp_path / "peers.png"
    again = tamis(*options, *peers, "--json", "--plot", plot)
    assert "0 rows measured, 6 were there before" in again.stderr
    report = json.loads(again.stdout)
    figures = report["sets"]["people"]["peers"]
    assert "times_reference_ms" not in figures["bm25"]  # tamis is not among them
    other = json.loads(tamis(*options, *peers, "--json", "--against", "truncation").stdout)
    found = other["sets"]["people"]["peers"]["truncation"]["times_reference_ms"]
    assert found == {"ratio": 1.0, "low": 1.0, "high": 1.0}
    assert figures["bm25"]["evidence"] == 1.0 > figures["truncation"]["evidence"]
    assert (report["threads"], report["budget"]) == (1, 0.25)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_run_without_time_reports_existing_rows(options):
    first = tamis(*options, "--peers", "truncation", "--minutes", 0, "--json")
    assert first.exit_code == 0
    assert json.loads(first.stdout)["sets"] == {}
    assert "0 rows measured, 0 were there before, 3 are left" in first.stderr
    assert "people: no case was done by every peer yet" in first.stderr


def test_rows_of_other_settings_are_refused(options):
    assert tamis(*options, "--peers", "truncation").exit_code == 0
    other = tamis(*options, "--peers", "truncation", "--budget", 0.5)
    assert other.exit_code == 2
    assert "budget 0.25 (now 0.5)" in other.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--peers", "magic"), "there is no peer 'magic'"),
        (("--peers", "bm25", "--against", "magic"), "there is no peer 'magic'"),
        (("--peers", "cross_encoder"), "--weights cross_encoder=FOLDER"),
        (("--peers", "bm25", "--weights", "nowhere"), "write PEER=FOLDER"),
        (("--peers", "bm25", "--weights", "bm25=/no/such"), "no folder /no/such"),
        (("--peers", "bm25", "--sets", "fairies"), "there are: people"),
        (("--peers", "bm25", "--data", "/no/such"), "there is no folder /no/such"),
        (("--peers", "bm25", "--plot", "x.txt"), "draw a .png"),
        (("--peers", "bm25", "--adapters", "/no/such"), "in the sources of tamis only"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_with_code_2(options, words, message):
    done = tamis(*options, *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_peer_without_its_environment_is_named_with_the_command_that_makes_it(options, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "peers.toml").write_text(
        'environments = "none"\nmake = "python make.py"\nreference = "far"\n'
        '[peers.far]\nadapter = "far.py"\nenvironment = "old"\n'
    )
    named = tamis(*options, "--adapters", home, "--peers", "far")
    assert named.exit_code == 2
    assert "far has no environment here: python make.py old" in named.stderr
    skipped = tamis(*options, "--adapters", home)
    assert skipped.exit_code == 2
    assert "left out: far has no environment here: python make.py old" in skipped.stderr
    assert "no peer can run here" in skipped.stderr


@pytest.mark.data
@pytest.mark.model
def test_bm25_keeps_more_evidence_than_truncation_on_real_cases(
    tmp_path, data_folder, proxy_folder
):
    done = tamis(
        *("lab", "bench", "peers", "--peers", "truncation,bm25", "--sets", "hotpotqa@4500"),
        *("--cases", 3, "--data", data_folder / "dev", "--threads", 1),
        *("--out", tmp_path / "rows.jsonl", "--json"),
    )
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["sets"]["hotpotqa@4500"]
    assert 4200 < found["mean_tokens_in"] <= 4500
    bm25, first = found["peers"]["bm25"], found["peers"]["truncation"]
    assert bm25["evidence"] > first["evidence"]
    assert all(0.15 < figures["kept"] <= 0.2 for figures in (bm25, first))
