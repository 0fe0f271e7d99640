"""`tamis lab bench selectors` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.service.cli.cli_kit import tamis

EXAMPLES = Path(__file__).parents[4] / "examples"
FIELDS = {"selector", "tokens", "recall_at_100", "attention_mass", "share_of_keys_read", "ms"}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has the examples of a clone, and no data beside it."""
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path


def test_help_teaches_with_examples_and_says_what_is_measured():
    run = tamis("lab", "bench", "selectors", "--help")
    assert run.exit_code == 0
    assert "tamis lab bench selectors --tokens 32000,128000" in run.output
    assert "largest logits" in run.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tokens", "many"], "give whole numbers"),
        (["--selectors", "qwest"], "did you mean 'quest'"),
        (["--heads", "14"], "'14' is no head"),
        (["--text", "docs"], "belong together"),
        (["--recall", "2"], "recall is 2"),
        (["--plot", "x.bmp"], "draw a .png"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_code_2(words, says, elsewhere):
    run = tamis("lab", "bench", "selectors", *words)
    assert run.exit_code == 2
    assert says in run.stderr
    assert "Traceback" not in run.output


def test_where_there_is_no_text_the_options_are_named(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    run = tamis("lab", "bench", "selectors")
    assert run.exit_code == 2
    assert "name --text, --train and --test" in run.stderr


@pytest.mark.model
def test_on_the_examples_the_graph_reads_fewer_keys_than_quest(elsewhere, proxy_folder):
    """The shipped questions, the real proxy, one head that is not deep."""
    what = ("--tokens", 4000, "--selectors", "attention_graph,quest,exact", "--heads", "10.3")
    run = tamis(
        "lab", "bench", "selectors", *what, "--window", 512, "--cache", elsewhere / "keys", "--json"
    )
    assert run.exit_code == 0, run.stderr
    rows = {row["selector"]: row for row in json.loads(run.stdout)["rows"]}
    assert all(set(row) >= FIELDS for row in rows.values())
    assert rows["exact"]["share_of_keys_read"] == 1
    assert rows["attention_graph"]["recall_at_100"] >= 0.95
    assert rows["attention_graph"]["share_of_keys_read"] < rows["quest"]["share_of_keys_read"]
    assert rows["attention_graph"]["attention_mass"] <= rows["exact"]["attention_mass"] + 1e-6
