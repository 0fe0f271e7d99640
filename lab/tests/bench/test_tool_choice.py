"""`lab bench tool-choice` on small files of the sets' own shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tamis.service.api.rank_tools import WORDS, ToolRanker, read_tools
from tamis_lab.app import app
from tamis_lab.bench.tool_choice import (
    area_under_curve,
    is_judged,
    logits_of,
    pooled,
    read_bfcl,
    read_metatool,
    taken_out,
)
from tests.service.api.tool_definitions import DESCRIPTIONS

ASKED = {name: f"{text} Please do that." for name, text in DESCRIPTIONS.items()}


def write(folder: Path) -> tuple[Path, Path]:
    """The folders of both sets: each tool is called by its own description."""
    bfcl, metatool = folder / "bfcl", folder / "metatool"
    (bfcl / "possible_answer").mkdir(parents=True)
    (metatool / "data").mkdir(parents=True)
    functions = [{"name": name, "description": text} for name, text in DESCRIPTIONS.items()]
    rows, answers, irrelevant = [], [], []
    for i, (name, asked) in enumerate(ASKED.items()):
        own = [functions[i], functions[(i + 1) % len(functions)]]
        question = [[{"role": "user", "content": asked}]]
        rows.append({"id": f"r{i}", "question": question, "function": own})
        answers.append({"id": f"r{i}", "ground_truth": [{name: {}}]})
        odd = [[{"role": "user", "content": "Who was the second emperor of Rome?"}]]
        irrelevant.append({"id": f"x{i}", "question": odd, "function": own})
    files = {
        "BFCL_v4_live_multiple.json": rows,
        "BFCL_v4_live_irrelevance.json": irrelevant,
        "possible_answer/BFCL_v4_live_multiple.json": answers,
    }
    for file, lines in files.items():
        (bfcl / file).write_text("\n".join(map(json.dumps, lines)))
    (metatool / "plugin_des.json").write_text(json.dumps(DESCRIPTIONS))
    queries = "\n".join(f'"{asked}",{name}' for name, asked in ASKED.items())
    (metatool / "data/all_clean_data.csv").write_text(f"Query,Tool\n{queries}\n")
    return bfcl, metatool


@pytest.mark.parametrize("more", [[], ["--fit"]], ids=["shipped", "fitted"])
def test_the_command_finds_tools_that_are_asked_for_by_their_descriptions(tmp_path, more):
    bfcl, metatool = write(tmp_path)
    words = ["bench", "tool-choice", "--bfcl", str(bfcl), "--metatool", str(metatool), "--json"]
    done = CliRunner().invoke(app, [*words, *more])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    for pool in found["recall"].values():
        assert pool["methods"]["tamis (minilm)"]["all@1"] == 1
        assert pool["methods"]["BM25"]["judged@12"] == 1
    assert found["verdict"]["minilm"]["auroc"] == 1
    assert bool(found["weights"]) == bool(more)


def test_both_halves_are_of_other_tools_and_lists_lack_the_tool_that_was_called(tmp_path):
    bfcl, metatool = write(tmp_path)
    asked = read_bfcl(bfcl)
    pools = {"bfcl": pooled(asked), "metatool": read_metatool(metatool, 99, 0)}
    for one in pools["bfcl"]:
        assert len(one.tools) == len(DESCRIPTIONS)
        assert ASKED[one.tools[one.called].name] == one.asked
        assert one.judged == is_judged(one.tools[one.called].name)
    lists = taken_out(asked, pools, 0)
    for whole, less in zip(lists["drawn"], lists["drawn without"], strict=True):
        assert whole.called == 0
        assert list(whole.tools[1:]) == list(less.tools)
        assert ASKED[whole.tools[0].name] == whole.asked
    for whole, less in zip(asked, lists["without"], strict=True):
        assert whole.tools[whole.called] not in less.tools


def test_the_log_odds_are_those_of_the_product():
    tools = read_tools([{"name": n, "description": text} for n, text in DESCRIPTIONS.items()])
    ranker = ToolRanker(None, None)
    found = ranker.rank("book a flight", tools, top_n=None)
    logits = logits_of(WORDS, ranker.features("book a flight", tools, None))
    assert 1 / (1 + np.exp(-logits.max())) == pytest.approx(found.results[0].score)
    assert int(logits.argmax()) == found.results[0].index


def test_area_under_curve_counts_ties_half():
    assert area_under_curve(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == 0.875
