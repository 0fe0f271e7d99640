"""The benchmark of patterns: its prompts, its figures by hand, and the command."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch

from lab.tests.bench.records import people, write
from lab.tests.methods.window_attention import kit
from tamis.compressors import registry
from tamis.probes.errors import BadInput
from tamis_lab.bench import prefill as bench
from tamis_lab.bench.prefill import LongPrompt, PromptBuilder
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.methods.prefill.contract import PromptShape
from tamis_lab.methods.prefill.prefill_pass import Prefilled
from tamis_lab.methods.registry import PATTERNS
from tests.service.cli.cli_kit import tamis

TOKENS = 460


def builder():
    return PromptBuilder(kit.proxy(context=512).layout, people(), 2, 0)


def hand_made(rows, own=(True, True), alive=None):
    """Two layers of one head; units of two tokens each, one row of the question at the end."""
    tokens = len(rows[0])
    whole = torch.arange(tokens) if alive is None else torch.tensor(alive)
    result = Prefilled([torch.tensor([[row]]) for row in rows], [whole] * 2, [None] * 2, list(own))
    units = torch.tensor([[0, 2], [2, 4], [4, 6]])
    shape = PromptShape(tokens, 1, 2, torch.tensor([[0, 6]]), units)
    return result, LongPrompt(tuple(range(tokens)), shape, torch.tensor([False, True, False]))


def reference(result, prompt):
    masses = tuple(bench.unit_masses(rows, prompt.shape.units) for rows in result.rows)
    return bench.DenseReference(result, torch.tensor([6]), (result.rows[0].half(),), masses, 1.0)


def test_a_prompt_holds_its_own_gold_and_others_passages_up_to_the_length():
    made = builder()
    prompt = made.build(2, TOKENS)
    text = bytes(i for i in prompt.ids if i < 256).decode("utf8", "replace")
    assert "Cid does live in town number 2." in text
    assert TOKENS - 130 < prompt.shape.tokens <= TOKENS
    assert prompt.gold.sum() == 1
    start, stop = prompt.shape.units[prompt.gold.nonzero()[0, 0]].tolist()
    assert bytes(prompt.ids[start:stop]).decode() == "Cid does live in town number 2."
    assert made.build(2, TOKENS).ids == prompt.ids


def test_passages_follow_each_other_and_hold_their_units():
    shape = builder().build(2, TOKENS).shape
    spans = shape.passages.tolist()
    assert len(spans) > 2
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    for start, stop in shape.units.tolist():
        assert any(a <= start < stop <= b for a, b in spans)
    assert spans[-1][1] <= shape.context


def test_questions_whose_gold_does_not_fit_are_passed_over_and_too_few_are_refused():
    made = builder()
    assert made.build(0, 60) is None
    with pytest.raises(BadInput, match="fits into 60 tokens and 3 are wanted"):
        made.build_many(60, 3)


def test_unit_masses_and_their_rank_correlation_by_hand():
    dense, prompt = hand_made([[0.1, 0.1, 0.2, 0.2, 0.0, 0.1, 0.3]] * 2)
    (mass,) = bench.unit_masses(dense.rows[0], prompt.shape.units)
    assert mass.tolist() == pytest.approx([0.1, 0.2, 0.05])
    other, _ = hand_made([[0.2, 0.2, 0.1, 0.1, 0.0, 0.0, 0.4]] * 2, own=(True, False))
    rhos = bench.unit_rhos(other, reference(dense, prompt), prompt.shape.units)
    assert rhos == pytest.approx((0.5,))  # ranks 2 3 1 against 3 2 1, the shared layer left out


def test_coverage_is_the_dense_attention_on_tokens_that_came():
    dense, prompt = hand_made([[0.1, 0.1, 0.2, 0.2, 0.0, 0.1, 0.3]] * 2)
    pruned, _ = hand_made([[0.5, 0, 0, 0, 0, 0, 0.5]] * 2, alive=[0, 2, 3, 6])
    assert bench.coverage(pruned, reference(dense, prompt), prompt) == pytest.approx(
        (0.8, 0.8), abs=1e-3
    )
    assert bench.coverage(dense, reference(dense, prompt), prompt) == pytest.approx(
        (1.0, 1.0), abs=1e-3
    )


def test_gold_is_kept_by_heads_of_layers_with_rows_of_their_own():
    rows = [[0.1, 0.1, 0.2, 0.2, 0.0, 0.1, 0.3], [0.3, 0.3, 0.0, 0.0, 0.0, 0.0, 0.4]]
    both, prompt = hand_made(rows)
    first, _ = hand_made(rows, own=(True, False))
    kept = [bench.kept_gold(one, prompt, [(0, 0), (1, 0)], (0.34,))[0.34] for one in (both, first)]
    assert kept == [0, 1]


def test_hidden_error_is_relative_and_of_tokens_that_came():
    dense, _ = hand_made([[0.1] * 7] * 2)
    dense.states = torch.tensor([[3.0, 4.0]] * 7)
    some, _ = hand_made([[0.1] * 7] * 2, alive=[0, 6])
    some.states = torch.tensor([[3.0, 4.0], [3.0, 3.0]])
    assert bench.hidden_error(some, dense) == pytest.approx(0.1)


def plan(**options):
    given = {
        "patterns": tuple(PATTERNS.names()), "tokens": (TOKENS,), "prompts": (2,),
        "shares": (0.5,), "budgets": (0.2,), "layers": 2, "seed": 0,
    }  # fmt: skip
    return bench.PrefillPlan(**(given | options))


def test_every_pattern_is_compared_with_the_dense_pass(tmp_path):
    file = RecordFile(write(tmp_path / "people.jsonl", people()))
    proxy = kit.proxy(context=512)
    found = bench.compare_patterns(proxy, file, plan(), lambda *_: None)
    assert [row["pattern"] for row in found["rows"]] == ["dense", *PATTERNS.names()]
    dense = found["rows"][0]
    assert dense["density"] == dense["unit_rho"] == 1
    assert dense["hidden_error"] == 0
    assert dense["coverage"] == pytest.approx(1, abs=1e-3)
    assert dense["ahead_of_dense"] == {"0.2": [0, 0, 0]}
    for row in found["rows"]:
        assert 0 < row["density"] <= 1
        assert 0 <= row["least_coverage"] <= row["coverage"] <= 1.001
        assert row["ms"] > 0
    assert found["similarity"][0][0] == pytest.approx(1, abs=1e-3)


def test_the_command_writes_table_json_and_map(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_proxy", lambda *_: kit.proxy(context=512))
    data = write(tmp_path / "people.jsonl", people())
    picture = tmp_path / "map.png"
    words = f"lab bench prefill --data {data} --tokens {TOKENS} --prompts 1 --shares 0.5".split()
    words += "--patterns streaming,star --layers 2".split()
    done = tamis(*words, "--plot", picture)
    assert done.exit_code == 0, done.output
    assert f"{TOKENS} tokens, 1 prompts" in done.stdout
    rows = json.loads(tamis(*words, "--json").stdout)["rows"]
    assert [row["pattern"] for row in rows] == ["dense", "streaming", "star"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_numbers_of_prompts_that_do_not_agree_with_lengths_are_refused(tmp_path):
    data = write(tmp_path / "people.jsonl", people())
    done = tamis(
        "lab", "bench", "prefill", "--data", str(data), "--tokens", "9,99", "--prompts", "1,2,3"
    )
    assert done.exit_code == 2
    assert "one for each length" in done.stderr.replace("\n", " ")


def test_one_more_pattern_is_one_file(tmp_path, monkeypatch):
    from tamis_lab.methods import patterns

    code = (PATTERNS.folder / "power.py").read_text("utf8")
    (tmp_path / "thirds.py").write_text(code.replace("& (distance - 1)) == 0", "% 3) == 0"), "utf8")
    monkeypatch.setattr(PATTERNS, "folder", tmp_path)
    monkeypatch.setattr(patterns, "__path__", [*patterns.__path__, str(tmp_path)])
    assert PATTERNS.names() == ["thirds"]
    shape = builder().build(2, TOKENS).shape
    assert PATTERNS.load("thirds")(0.9).start(shape).blocks(0, torch.zeros(1), torch.zeros(1)).any()
    rows = json.loads(tamis("lab", "kinds", "--kind", "pattern", "--json").stdout)
    assert [row["name"] for row in rows] == ["thirds"]
