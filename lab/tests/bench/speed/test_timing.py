"""Timing: the work has the requested size, and the figures are those of the work done."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tamis.probes.errors import BadInput
from tamis_lab.app import app
from tamis_lab.bench.speed import (
    QUESTION_TOKENS,
    ROOT,
    WorkloadText,
    _compare_runs,
    example_text,
    measure_limit,
)
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

PROSE = "Cats sit on mats. Dogs run. Emus hop very far over the hills. It rains.\n\nNew day. Sun.\n"
LONG = example_text()[0][:6000]
# bf16 where the processor multiplies it: kept keys are summed in another order
BF16 = 1e-2
TURNS = ((10.0, 30.0), (20.0, 40.0), (50.0, 50.0))


@pytest.fixture(scope="module")
def proxy():
    return tiny.proxy()


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    """Ten products of 2048³ take seconds on a busy core; how they are counted is the same."""
    monkeypatch.setattr("tamis_lab.bench.speed._MATRIX_SIZE", 64)


def text(proxy, each, prose=LONG, seed=0):
    return WorkloadText(prose, "prose", proxy.layout, each, seed)


@pytest.mark.parametrize(("tokens", "each"), [(300, 50), (310, 50), (30, 50), (2000, 128)])
def test_passages_have_the_requested_tokens_and_are_parts_of_the_text(proxy, tokens, each):
    found = text(proxy, each).passages(tokens)
    sizes = proxy.layout.tokenizer.count_many([passage.text for passage in found])
    assert len(found) == -(-tokens // each)
    assert all(passage.text in LONG for passage in found)
    # a token at either end may be another one when the passage is read alone
    assert max(sizes) <= each
    assert tokens - 2 * len(found) <= sum(sizes) <= tokens
    assert len({passage.text for passage in found}) == len(found)


def test_more_tokens_than_the_text_has_are_drawn_from_other_places_in_it(proxy):
    source = text(proxy, 50)
    found = source.passages(source.workload.text_tokens * 2)
    assert len({passage.text for passage in found}) == len(found)
    assert len(text(proxy, 50).passages(source.workload.text_tokens * 9)) > 3 * len(found)


def test_the_seed_decides_the_order_of_the_passages_and_the_questions(proxy):
    one, same, other = (text(proxy, 50, seed=seed) for seed in (0, 0, 1))
    assert one.passages(500) == same.passages(500) != other.passages(500)
    assert one.question(3) == same.question(3) != other.question(3)


def test_every_question_has_its_tokens_and_rounds_have_different_questions(proxy):
    source = text(proxy, 50)
    questions = [source.question(number) for number in range(20)]
    counts = proxy.layout.tokenizer.count_many([f" {question}" for question in questions])
    assert set(counts) == {QUESTION_TOKENS}
    assert len(set(questions)) > 10  # so short, with a token a byte, that some come twice


@pytest.mark.parametrize("prose", ["", " \n ", PROSE])
def test_a_text_that_is_shorter_than_a_passage_is_refused(proxy, prose):
    with pytest.raises(BadInput, match="give a longer text"):
        text(proxy, 500, prose)


def test_the_documents_that_ship_are_the_default_text():
    prose, name = example_text()
    assert name == "examples/"
    assert len(prose) > 50_000


def test_the_limit_counts_the_weights_that_a_token_is_multiplied_with(proxy):
    limit = measure_limit(proxy)
    # 64 wide, 4 heads of 16, 2 for keys, MLP of 96: three layers whole, of the last q, k and v
    attention, mlp = 64 * 64 + 2 * 64 * 32, 3 * 64 * 96
    assert limit.weights == 3 * (attention + 64 * 64 + mlp) + attention
    assert limit.share(1000, 1000.0) == 2 * limit.weights * 1000 / limit.flops


def run(tmp_path, *words):
    (tmp_path / "prose.txt").write_text(LONG)
    folder = tmp_path / "llama"
    if not folder.exists():
        tiny.save("llama", folder)
    given = ("speed", "--text", tmp_path / "prose.txt", "--proxy", folder, "--rounds", 2, *words)
    return CliRunner().invoke(app, ["bench", *map(str, given)])


def test_every_path_and_size_is_a_cell_and_warm_ones_read_the_questions_alone(tmp_path):
    words = ("--tokens", "200,400", "--passage-tokens", 50, "--paths", "cold,fill,warm", "--json")
    done = run(tmp_path, *words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found)[-5:] == ["threads", "cold", "fill", "warm", "workload"]
    for path in ("cold", "fill", "warm"):
        assert list(found[path]) == ["200", "400"]
        for cell in found[path].values():
            assert 0 < cell["ms_p50"] <= cell["ms_p95"]
            speed = cell["tokens_in"] / cell["ms_p50"] * 1e3
            assert cell["tokens_per_s"] == pytest.approx(speed, rel=0.01)
            assert cell["rounds"] == 2
            assert set(cell["stages_ms"]) >= {"segment", "tokenize", "read", "select", "total"}
    assert found["cold"]["400"]["windows"] == 8
    assert found["workload"] == {
        "text": str(tmp_path / "prose.txt"),
        "text_tokens": found["workload"]["text_tokens"],
        "passage_tokens": 50,
        "question_tokens": 20,
        "seed": 0,
    }
    assert found["machine"]["threads"] == 1

    cold, fill, warm = (found[path]["400"] for path in ("cold", "fill", "warm"))
    assert (cold["tokens_cached"], fill["tokens_cached"]) == (0, 0)
    assert warm["tokens_read"] + warm["tokens_cached"] == cold["tokens_read"]
    tokens_each = warm["tokens_read"] / warm["windows"]
    assert QUESTION_TOKENS < tokens_each < QUESTION_TOKENS + 60  # the template's words beside it
    assert fill["max_score_difference"] == 0
    assert warm["max_score_difference"] < BF16
    # 2 heads of 16: keys of the 3 layers that are read, and values of the first 2
    size = 4 if found["machine"]["dtype"] == "float32" else 2
    assert warm["cache_bytes"] == warm["tokens_cached"] * (3 + 2) * 2 * 16 * size


def test_long_passages_are_read_in_windows_as_long(tmp_path):
    words = ("--tokens", "700", "--passage-tokens", 700, "--paths", "cold", "--json")
    found = json.loads(run(tmp_path, *words).stdout)
    assert found["cold"]["700"]["windows"] == 1


def test_the_table_has_a_row_a_path_and_size(tmp_path):
    done = run(tmp_path, "--tokens", "100", "--passage-tokens", 50)
    assert done.exit_code == 0, done.output
    assert "as fast as cold" in done.stdout
    assert "questions of 20, seed 0" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        *(("--tokens", ","), ("--tokens", "many"), ("--tokens", "0")),
        *(("--paths", "hot"), ("--paths", ","), ("--storage", "int4")),
        ("--passage-tokens", "100000"),
    ],
)
def test_what_cannot_be_timed_is_exit_code_2(tmp_path, words):
    done = run(tmp_path, *words)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output


def test_a_batch_reads_the_passages_once_for_all_its_questions(tmp_path):
    words = ("--tokens", "200", "--passage-tokens", 50, "--paths", "cold,batch", "--json")
    found = json.loads(run(tmp_path, *words).stdout)
    cold, batch = found["cold"]["200"], found["batch"]["200"]
    assert batch["rounds"] == 2
    # the last question found every passage kept, and asked no more than itself of each
    assert batch["tokens_read"] + batch["tokens_cached"] >= cold["tokens_read"] - 5
    assert batch["tokens_read"] < cold["tokens_read"]
    assert 0 < batch["share_of_limit"]


def test_the_plot_is_an_image_and_a_wrong_name_is_an_error(tmp_path):
    words = ("--tokens", "100,200", "--passage-tokens", 50, "--paths", "cold,warm", "--plot")
    done = run(tmp_path, *words, tmp_path / "speed.png")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    done = run(tmp_path, *words, tmp_path / "speed.nothing")
    assert done.exit_code == 2
    assert "draw a .png" in done.output


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no commits here to compare with")
def test_another_commit_takes_turns_with_this_tree(tmp_path):
    done = run(
        *(tmp_path, "--tokens", "100", "--passage-tokens", 50, "--paths", "cold", "--json"),
        *("--against", "HEAD", "--rounds", 1),
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["against"] == "HEAD"
    cell = found["cold"]["100"]
    assert cell["turns"] == 1
    assert 0 < cell["ms_p50"]
    assert 0 < cell["faster_least"] <= cell["faster"] <= cell["faster_most"]


def test_the_ratio_of_turns_is_theirs_over_ours():
    sides = [({"cold": {"9": {"ms_p50": a}}}, {"cold": {"9": {"ms_p50": b}}}) for a, b in TURNS]
    cell = _compare_runs(sides)["cold"]["9"]
    assert (cell["ms_p50"], cell["their_ms_p50"]) == (20.0, 40.0)
    assert (cell["faster_least"], cell["faster"], cell["faster_most"]) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("revision", ["no-such-commit", "--exec=true", ""])
def test_a_commit_that_is_none_is_exit_code_2(tmp_path, revision):
    done = run(tmp_path, "--tokens", "100", f"--against={revision}")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
