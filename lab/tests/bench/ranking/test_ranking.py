"""`tamis lab bench ranking` on generated sets, with methods that need no proxy."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random

import pytest

from lab.tests.bench.records import read, write
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.service.api.rerank import rerank
from tamis_lab.bench import ranking as bench
from tamis_lab.datasets.qrels import load_queries
from tamis_lab.datasets.ranking_metrics import exponential_gains, ndcg, reciprocal_rank
from tamis_lab.datasets.record_files import question_fold, sample_questions
from tests.service.cli.cli_kit import tamis

WORDS = "harbour closed ships bread storm winter keys rotate paint room town mild".split()
SETS = {"mediqa": 3, "stard": 1}
"""Sets by the highest grade of their documents."""


def random_set(name, top, questions=9):
    """Queries and documents of random words; grades are random, three documents are not found."""
    chance = random.Random(name)
    documents, queries = [], []
    for q in range(questions):
        ids = [f"{name}-{q}-{d}" for d in range(10)]
        documents += [
            {
                "docid": i,
                "title": "",
                "text": " ".join(chance.choices(WORDS, k=8)).capitalize() + ".",
            }
            for i in ids
        ]
        grades = {i: chance.randint(0, top) for i in chance.sample(ids, 6)} | {ids[0]: top}
        found = sorted(((i, chance.uniform(0, 9)) for i in ids[:7]), key=lambda p: -p[1])
        queries.append(
            {
                "qid": str(q),
                "query": f"{' '.join(chance.sample(WORDS, 3))} {q}?",
                "qrels": grades,
                "candidates": {"bm25": found, "splade": found[::-1]},
            }
        )
    return queries, documents


@pytest.fixture
def folder(tmp_path):
    """Two sets, one of them packed and with its documents called passages."""
    place = tmp_path / "sets"
    place.mkdir()
    for name, top in SETS.items():
        queries, documents = random_set(name, top)
        write(place / f"{name}_queries.jsonl", queries)
        kind = "passages" if name == "mediqa" else "corpus"
        write(place / f"{name}_{kind}.jsonl", documents)
    packed = place / "mediqa_passages.jsonl"
    (place / "mediqa_passages.jsonl.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    return place


@pytest.fixture
def without_encoder(monkeypatch):
    def missing(name):
        raise ProxyMissing(f"{name} is not installed")

    monkeypatch.setattr(bench, "locate", missing)


def run(folder, *words):
    return tamis("lab", "bench", "ranking", "--data", folder, "--method", "lead", *words)


def report(folder, *words):
    done = run(folder, "--json", *words)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def slow_ndcg(ranking, qrels):
    """The gain of a ranking over the largest of any order: all orders of ten are tried."""

    def gain(order):
        return sum(
            (2 ** qrels.get(d, 0) - 1) / math.log(r + 2, 2) for r, d in enumerate(order[:10])
        )

    positive = [d for d, grade in qrels.items() if grade > 0]
    return gain(ranking) / max(gain(order) for order in itertools.permutations(positive))


def slow_rank(question, rows, texts, fused):
    """The ranking that `tamis.rerank` itself gives with the scores of a first stage."""
    ids = [docid for docid, _ in rows]
    first = {"first_stage": [score for _, score in rows]} if fused else {}
    ranked = rerank(question, [texts[i] for i in ids], method="lexical", **first)
    return [ids[one.index] for one in ranked.results]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.usefixtures("without_encoder")
def test_figures_are_those_of_a_slow_computation_over_what_rerank_returns(folder, fused):
    found = report(folder)["sets"]
    for name, top in SETS.items():
        queries, documents = random_set(name, top)
        texts = {d["docid"]: d["text"] for d in documents}
        ndcgs, ranks = [], []
        for query in queries:
            order = slow_rank(query["query"], query["candidates"]["bm25"], texts, fused)
            ndcgs.append(slow_ndcg(order, query["qrels"]))
            enough = 2 if top == 3 else 1
            good = [i for i, d in enumerate(order, 1) if query["qrels"].get(d, 0) >= enough]
            ranks.append(1 / good[0] if good else 0)
        row = found[name]["rankers"]["lexical + first" if fused else "lexical"]
        assert row["ndcg@10"] == pytest.approx(sum(ndcgs) / len(ndcgs))
        assert row["mrr"] == pytest.approx(sum(ranks) / len(ranks))


def test_a_grade_of_three_gains_seven_times_as_much_as_one():
    qrels = {"a": 3.0, "b": 1.0}
    got = ndcg(["b", "x", "a"], exponential_gains(qrels))
    assert got == pytest.approx((1 + 7 / 2) / (7 + 1 / math.log2(3)))
    assert reciprocal_rank(["x", "b", "a"], {"a", "b"}) == 1 / 2
    assert reciprocal_rank(["x"], {"a"}) == 0


@pytest.mark.usefixtures("without_encoder")
def test_regret_is_the_distance_to_the_best_free_ranking_of_each_set(folder):
    whole = report(folder)
    for of in whole["sets"].values():
        free = {name: of["rankers"][name]["ndcg@10"] for name in ("first stage", "lexical")}
        assert of["best_free"] == max(free, key=free.get)
        for name, row in of["rankers"].items():
            short = max(free.values()) - row["ndcg@10"]
            assert row["regret"] == pytest.approx(max(0, short)), name
            if row["ahead"]:
                assert row["ahead"]["difference"] == pytest.approx(-short)
                assert row["ahead"]["low"] <= -short <= row["ahead"]["high"]
    assert [of["domain"] for of in whole["sets"].values()] == ["health", "law"]
    for name, row in whole["overall"].items():
        regrets = {key: of["rankers"][name]["regret"] for key, of in whole["sets"].items()}
        assert row["mean_regret"] == pytest.approx(sum(regrets.values()) / len(regrets))
        assert row["largest_regret"] == max(regrets.values())
        worst = row["largest_regret_in"]
        assert regrets[worst] == max(regrets.values()) if worst else not any(regrets.values())


@pytest.mark.usefixtures("without_encoder")
def test_a_run_goes_on_and_takes_more_sets_methods_and_questions(folder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    first = run(folder, "--sets", "stard", "--questions", 3, "--results", rows)
    assert first.exit_code == 0, first.stderr
    assert "6 rows measured, 0 were there before" in first.stderr
    assert "lexical" in first.stdout
    before = rows.read_text("utf8")
    rows.write_text(before + '{"key": "stard', "utf8")
    more = run(folder, "--sets", "stard:5,mediqa:4", "--results", rows)
    assert "12 rows measured, 6 were there before" in more.stderr
    assert rows.read_text("utf8").startswith(before)
    kept = report(folder, "--sets", "stard:5,mediqa:4", "--results", rows)
    new = report(folder, "--sets", "stard:5,mediqa:4")
    for name, of in kept["sets"].items():
        for ranker, row in of["rankers"].items():
            assert row["ndcg@10"] == new["sets"][name]["rankers"][ranker]["ndcg@10"]
    other = run(folder, "--depth", 5, "--results", rows)
    assert other.exit_code == 2
    assert "depth 100 (now 5)" in other.stderr


@pytest.mark.usefixtures("without_encoder")
def test_rows_of_other_texts_are_measured_again_and_foreign_ones_refused(folder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    assert run(folder, "--sets", "stard:2", "--results", rows).exit_code == 0
    spoilt = read(rows)
    spoilt[0]["own"] = spoilt[0]["own"][1:]
    write(rows, spoilt)
    refused = run(folder, "--sets", "stard:2", "--results", rows)
    assert refused.exit_code == 2
    assert f"the line of {spoilt[0]['key']} is none of this run" in refused.stderr
    corpus = folder / "stard_corpus.jsonl"
    corpus.write_text(corpus.read_text("utf8").replace("mild", "wild"), "utf8")
    again = run(folder, "--sets", "stard:2", "--results", rows)
    assert "4 rows measured, 0 were there before" in again.stderr


def test_a_sample_is_of_the_fold_that_no_fit_sees_and_grows_by_adding():
    questions = [f"What of number {i}?" for i in range(100)]
    held = [i for i, text in enumerate(questions) if question_fold(text) == 0]
    few, many = sample_questions(questions, 8), sample_questions(questions, len(held))
    assert len(few) == 8
    assert set(few) <= set(many)
    assert many == held
    assert set(held) < set(sample_questions(questions, len(held) + 5))
    turned = sample_questions(questions[::-1], 8)
    assert {questions[i] for i in few} == {questions[::-1][i] for i in turned}
    assert sample_questions(questions, 1000) == list(range(100))


@pytest.mark.usefixtures("without_encoder")
def test_below_the_depth_the_order_is_the_first_stages_and_its_list_can_be_chosen(folder):
    deep = report(folder, "--depth", 1)["sets"]["stard"]["rankers"]
    assert {row["ndcg@10"] for row in deep.values()} == {deep["first stage"]["ndcg@10"]}
    other = report(folder, "--first", "splade")["sets"]["stard"]
    assert other["first_stage"] == "splade"
    assert other["rankers"]["first stage"] != deep["first stage"]
    none = run(folder, "--first", "chiqa")
    assert none.exit_code == 2
    assert "choose one with --first" in none.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sets", "nosuch"), "no ranking set 'nosuch'; there are: mediqa, stard"),
        (("--sets", "stard:none"), "the number of questions of stard has 'none'"),
        (("--method", "nosuch"), "nosuch"),
        (("--method", "lexical:deep=1"), "deep"),
    ],
)
@pytest.mark.usefixtures("without_encoder")
def test_what_is_not_there_is_named_before_anything_is_read(folder, tmp_path, words, message):
    rows = tmp_path / "rows.jsonl"
    done = run(folder, *words, "--results", rows)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not rows.exists()


def test_folders_without_whole_sets_are_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="there is no NAME_queries"):
        bench.find_ranking_sets([tmp_path])
    with pytest.raises(BadInput, match="are both mediqa"):
        bench.find_ranking_sets([folder, folder])
    (folder / "stard_corpus.jsonl").unlink()
    with pytest.raises(BadInput, match="has 0 files of documents beside it"):
        bench.find_ranking_sets([folder])


@pytest.mark.usefixtures("without_encoder")
def test_a_plot_is_drawn(folder, tmp_path):
    pytest.importorskip("matplotlib")
    image = tmp_path / "ranking.png"
    assert run(folder, "--sets", "stard:2", "--plot", image).exit_code == 0
    assert image.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("without_encoder")
def test_labelled_records_are_a_set_in_the_order_they_came_in(tmp_path):
    def doc(text, gold):
        return {"title": "", "text": text, "sents": [[0, len(text)]], "gold": gold}

    asked = {"Where is the key?": "The key is in the jar.", "Who rang?": "The baker rang."}
    rows = [
        {
            "id": f"r{number}",
            "question": question,
            "docs": [doc("It rained.", []), doc("Nothing.", []), doc(answer, [0])],
        }
        for number, (question, answer) in enumerate(asked.items())
    ]
    write(tmp_path / "hops.jsonl", rows)
    words = ("--records", tmp_path / "hops.jsonl", "--method", "lead", "--json")
    done = tamis("lab", "bench", "ranking", *words)
    assert done.exit_code == 0, done.stderr
    of = json.loads(done.stdout)["sets"]["hops"]
    assert (of["questions"], of["first_stage"]) == (2, "order")
    found = {name: (row["ndcg@10"], row["mrr"]) for name, row in of["rankers"].items()}
    assert found["first stage"] == pytest.approx((1 / math.log2(4), 1 / 3))
    assert found["lexical"] == (1, 1)


@pytest.mark.model
@pytest.mark.usefixtures("encoder_folder")
def test_the_sum_of_both_free_methods_is_ranked_where_the_encoder_is(folder):
    of = report(folder, "--sets", "stard:4")["sets"]["stard"]
    # models that may be added need not be here
    needed = {name for name in bench.FREE if not name.startswith("cross:")} - {bench.LARGE}
    assert needed < set(of["rankers"])
    files = bench.choose_sets(bench.find_ranking_sets([folder]), "stard:4", 1)[0]
    loaded = bench.load_ranking_set(files, "bm25", 100)
    assert loaded.queries == [
        query for query in load_queries(files.queries, "bm25")[0] if query in loaded.queries
    ]
    got = []
    for query in loaded.queries:
        documents = [loaded.documents[docid] for docid, _ in query.candidates]
        parts = [rerank(query.text, documents, method=m) for m in ("lexical", "embedding")]
        sums = [0.0] * len(documents)
        for part in parts:
            own = [one.own for one in part.results]
            mean = sum(own) / len(own)
            spread = math.sqrt(sum((x - mean) ** 2 for x in own) / len(own))
            for one in part.results:
                sums[one.index] += (one.own - mean) / spread
        order = sorted(range(len(sums)), key=lambda i: -sums[i])
        got.append(slow_ndcg([query.candidates[i][0] for i in order], dict(query.qrels)))
    assert of["rankers"][bench.BOTH]["ndcg@10"] == pytest.approx(sum(got) / len(got))
    one, two = (of["rankers"][m]["cpu_ms"] for m in ("lexical", "embedding"))
    assert of["rankers"][bench.BOTH]["cpu_ms"] == pytest.approx(one + two)
