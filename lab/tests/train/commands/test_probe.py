"""`tamis lab probe` on a tiny model: fits, evaluates, calibrates and draws a probe."""

from __future__ import annotations

import json

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.train.lora.examples import example_records
from tamis.compressors.features.second_step import ENCODER, FLOORS
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe
from tamis_lab.datasets import score_sources
from tamis_lab.datasets.record_files import name_distinctly
from tamis_lab.datasets.records import load_records
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.options.shared import parse_record_file
from tamis_lab.train.commands.probe_plots import head_weights
from tests.laws.methods import make_probe, question_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.service.cli.cli_kit import tamis

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, data, and a probe that the command fitted."""
    folder = tmp_path_factory.mktemp("probe")
    tiny.save("llama", folder / "llama")
    write(folder / "records.jsonl", example_records())
    done = tamis(
        *("lab", "probe", "train", "--proxy", folder / "llama", "--data", folder / "records.jsonl"),
        *("--out", folder / "mine.safetensors", "--layers", 2, "--cache", folder / "readings"),
    )
    assert done.exit_code == 0, done.output
    assert "AUC" in done.stdout
    assert "wrote" in done.stderr
    return folder


def test_headings_of_pages_become_records_that_train_takes(place, tmp_path):
    for name in ("alpha", "beta", "gamma", "delta"):
        steps = "\n".join(f"{n}. Step {n} of {name}." for n in range(1, 4))
        (tmp_path / f"{name}.md").write_text(f"# Manual\n\n## Rotate {name} keys\n\n{steps}\n")
    out = tmp_path / "manual.jsonl"
    done = tamis("lab", "probe", "headings", tmp_path, "--out", out)
    assert done.exit_code == 0, done.output
    assert "4 questions of 4 pages, 3.0 gold units" in " ".join(done.stderr.split())
    rows = load_records(out)
    assert {row["question"] for row in rows} == {
        f"Rotate {name} keys" for name in ("alpha", "beta", "gamma", "delta")
    }
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "a.md").write_text("No heading here.")
    refused = tamis("lab", "probe", "headings", tmp_path / "bare", "--out", out)
    assert refused.exit_code == 2
    assert "none of 1 pages has a heading" in " ".join(refused.stderr.split())


def probe(place, command, *words):
    given = ("--proxy", place / "llama", "--data", place / "records.jsonl")
    return tamis("lab", "probe", command, *words, *given, "--cache", place / "readings")


def test_train_writes_a_probe_that_compress_takes(place):
    assert LinearProbe.load(place / "mine.safetensors").card.model == "llama"
    row = example_records()[0]
    (place / "in.json").write_text(
        json.dumps({"question": row["question"], "documents": [d["text"] for d in row["docs"]]})
    )
    words = ("compress", place / "in.json", "--threshold", "0.0", "--proxy", place / "llama")
    done = tamis(*words, "--probe", place / "mine.safetensors", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["status"] == "ok"
    refused = tamis(*words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "no probabilities" in refused.stderr


def test_compress_refuses_a_probe_of_another_model(place, tmp_path):
    tiny.save("qwen2", tmp_path / "qwen2")
    (tmp_path / "in.txt").write_text("One is here. Two is there. Three is far.")
    words = ("compress", tmp_path / "in.txt", "-q", "Q?", "--max-tokens", 20)
    done = tamis(*words, "--proxy", tmp_path / "qwen2", "--probe", place / "mine.safetensors")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "fitted with model llama" in done.stderr


def test_eval_judges_every_question_given(place):
    done = probe(place, "eval", place / "mine.safetensors", "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["questions"] == len(example_records())
    assert figures["auc"] > 0.9
    assert list(figures["evidence"]) == ["records"]
    assert (
        f"{len(example_records())} questions"
        in probe(place, "eval", place / "mine.safetensors").stdout
    )


def test_calibrate_writes_the_same_weights_with_other_probabilities(place):
    out = place / "calibrated.safetensors"
    done = probe(place, "calibrate", place / "mine.safetensors", "--out", out)
    assert done.exit_code == 0, done.output
    before, after = LinearProbe.load(place / "mine.safetensors"), LinearProbe.load(out)
    assert torch.equal(before.weights["first"], after.weights["first"])
    assert not torch.equal(before.weights["calibration"], after.weights["calibration"])


def test_calibrate_fits_the_verdict_alone_where_questions_have_no_answer(place, tmp_path):
    """What a sentence scores stays; the card has floors of the fold that no fit saw."""
    out, rows = tmp_path / "verdict.safetensors", []
    for i, row in enumerate(example_records() * 2):
        topic = {"domain": f"topic {i % 2}", "id": f"{row['id']}-{i}"}
        rows += [row | topic, row | topic | {"id": f"{i}-none", "answerable": False}]
    words = ("--data", write(tmp_path / "rows.jsonl", rows), "--proxy", place / "llama")
    words += ("--answerability", "--out", out, "--cache", tmp_path / "readings")
    done = tamis("lab", "probe", "calibrate", place / "mine.safetensors", *words)
    assert done.exit_code == 0, done.output
    before, after = LinearProbe.load(place / "mine.safetensors"), LinearProbe.load(out)
    changed = {name for name in after.weights if name not in before.weights}
    changed |= {n for n, w in before.weights.items() if not torch.equal(w, after.weights[n])}
    assert changed == {"answerable"}
    assert 0 <= after.card.figures[FLOORS]["partly"] <= after.card.figures[FLOORS]["answerable"]


def test_show_draws_a_line_a_layer_and_an_image(place, tmp_path):
    pytest.importorskip("matplotlib")
    done = tamis(
        "lab", "probe", "show", place / "mine.safetensors", "--png", tmp_path / "heads.png"
    )
    assert done.exit_code == 0, done.output
    assert [line[:8] for line in done.stdout.splitlines() if line.startswith("layer")] == [
        "layer  1",
        "layer  0",
    ]
    assert (tmp_path / "heads.png").read_bytes().startswith(PNG)
    for wrong in (tmp_path / "none" / "heads.png", tmp_path / "heads.nope"):
        refused = tamis("lab", "probe", "show", place / "mine.safetensors", "--png", wrong)
        assert refused.exit_code == 2
        assert "cannot be written" in refused.stderr


def test_the_map_adds_the_mean_and_the_maximum_of_each_head():
    found = question_probe(tiny.proxy())
    first = found.weights["first"]
    grid = head_weights(found)
    assert grid.shape == (tiny.LAYERS, tiny.HEADS)
    assert grid[1, 2] == first[6] + first[16 + 6]


def test_sentinel_is_trained_and_shown(place):
    out = place / "sentinel.safetensors"
    done = probe(place, "train", "--method", "sentinel", "--out", out)
    assert done.exit_code == 0, done.output
    assert LinearProbe.load(out).card.method == "sentinel"
    (used,) = LinearProbe.load(out).card.trained_on
    assert used["questions"] == len(example_records())
    assert tamis("lab", "probe", "show", out).exit_code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["train", "--data", "{place}/none.jsonl", "--out", "o"], "cannot be read"),
        (["train", "--data", "{bad}", "--out", "o"], "line 1: not JSON"),
        (["train", "--data", "{place}/records.jsonl:3", "--out", "o"], "too few articles"),
        (["train", "--data", "{place}/records.jsonl", "--out", "o", "--loss", "x"], "no loss 'x'"),
        (["train", "--data", "{bad}", "--out", "o", "--method", "x"], "--method is 'x'"),
        (["train", "--data", "{bad}", "--out", "o", "--recipe", "x"], "--recipe is 'x'"),
        (["train", "--data", "{place}/records.jsonl", "--out", "o", "--layers", "9"], "layer 8"),
        (["train", "--data", "{bad}", "--out", "o", "--l2", "-1"], "l2 is -1"),
        (["train", "--data", "{bad}", "--out", "o", "--l2", "nan"], "l2 is nan"),
        (["train", "--data", "{bad}", "--out", "{bad}/o"], "cannot be written"),
        (["train", "--data", "{bad}", "--out", "o", "--recipe", "published"], "not use --recipe"),
        (
            ["train", "--data", "{bad}", "--out", "o", "--method", "sentinel", "--no-encoder"],
            "sentinel does not use --no-encoder",
        ),
        (
            [
                *("train", "--data", "{bad}", "--out", "o", "--method", "sentinel"),
                *("--layers", "2", "--loss", "logistic", "--articles", "{bad}"),
            ],
            "sentinel does not use --layers, --loss, --articles",
        ),
        (
            ["train", "--data", "{place}/records.jsonl:4", "--out", "o", "--method", "sentinel"],
            "give",
        ),
        (["calibrate", "--data", "{bad}", "--out", "{bad}/o"], "cannot be written"),
        (["eval", "--data", "{bad}", "--png", "{bad}/o.png"], "cannot be written"),
        (["eval", "{place}/mine.safetensors", "--data", "{all}"], "nothing can be judged"),
        (["eval", "{place}/none.safetensors", "--data", "{bad}"], "probe's card"),
        (["eval", "--data", "{bad}"], "no probe for question_rows"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(place, tmp_path, words, why):
    (tmp_path / "bad.jsonl").write_text("{")
    write(tmp_path / "all.jsonl", [record("a", "Q?", doc("A.", gold=[0]), doc("", title="x"))])
    names = {"place": place, "bad": tmp_path / "bad.jsonl", "all": tmp_path / "all.jsonl"}
    given = [word.format(**names) if word != "o" else tmp_path / "o.safetensors" for word in words]
    done = tamis(
        "lab", "probe", *given, "--proxy", place / "llama", "--cache", tmp_path / "readings"
    )
    assert done.exit_code == 2, done.output
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o.safetensors").exists()


def test_a_probe_is_written_under_the_whole_name_that_was_given(place, tmp_path):
    found = LinearProbe.load(place / "mine.safetensors")
    for given, due in (
        ("v1.2", "v1.2.safetensors"),
        ("v1.safetensors", "v1.safetensors"),
        ("v2.json", "v2.safetensors"),
        ("new/v3", "new/v3.safetensors"),
    ):
        assert found.save(tmp_path / given) == tmp_path / due
        assert (tmp_path / due).with_name(due.split("/")[-1][:-11] + "json").is_file()
        assert LinearProbe.load(tmp_path / given).card.model == "llama"
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        found.save(tmp_path / "file" / "v1")


class LongestFirst:
    """Cosines of an encoder that likes long units."""

    def score_case(self, question, passages, units):
        values = tuple(float(unit.stop - unit.start) for unit in units)
        return TimedScores(Scores(values, (0.0,) * len(passages)), 1.0)


@pytest.mark.parametrize("flags", [[], ["--no-encoder"]])
def test_the_encoder_is_weighed_unless_told_not_to(place, tmp_path, monkeypatch, flags):
    monkeypatch.setattr(score_sources, "installed_encoder_source", lambda folder: LongestFirst())
    done = tamis(
        *("lab", "probe", "train", "--proxy", place / "llama", "--data", place / "records.jsonl"),
        *("--out", tmp_path / "mine", "--layers", 2, "--cache", place / "readings", *flags),
    )
    assert done.exit_code == 0, done.output
    weighed = {name for name in LinearProbe.load(tmp_path / "mine").weights if ENCODER in name}
    assert bool(weighed) == (not flags)


def test_two_files_of_one_name_are_told_apart_on_the_card_and_in_the_figures(place, tmp_path):
    for folder, part in (("a", example_records()[:18]), ("b", example_records()[18:])):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "set.jsonl", part)
    both = [word for f in "ab" for word in ("--data", tmp_path / f / "set.jsonl")]
    done = tamis(
        *("lab", "probe", "train", "--proxy", place / "llama", *both, "--layers", 2),
        *("--out", tmp_path / "two", "--cache", place / "readings"),
    )
    assert done.exit_code == 0, done.output
    assert "two.safetensors" in done.stderr.replace("\n", "")
    card = LinearProbe.load(tmp_path / "two").card
    assert [(each["name"], each["questions"]) for each in card.trained_on] == [
        ("a/set", 18),
        ("b/set", 15),
    ]
    judged = tamis(
        *("lab", "probe", "eval", tmp_path / "two", "--proxy", place / "llama", *both, "--json"),
        *("--cache", place / "readings"),
    )
    assert set(json.loads(judged.stdout)["evidence"]) == {"a/set", "b/set"}


def test_names_are_distinct_however_files_are_given(tmp_path):
    given = [
        parse_record_file(f"{tmp_path}/{name}") for name in ("a/x.jsonl", "b/x.jsonl", "c.jsonl")
    ]
    assert [s.name for s in name_distinctly(given)] == ["a/x", "b/x", "c"]
    assert [s.name for s in name_distinctly([given[0], given[0]])] == ["a/x", "a/x 2"]


def test_the_map_of_the_probe_that_ranks_is_of_its_heads_and_none_is_made_up():
    done = tamis("lab", "probe", "show", "--method", "rank")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("layer")
    empty = make_probe(tiny.proxy(), "other", {"calibration": [0.0] * 4})
    with pytest.raises(BadInput, match="no weights of heads"):
        head_weights(empty)


def test_a_source_is_a_file_and_maybe_a_limit():
    for given, path, limit in (
        ("a.jsonl", "a.jsonl", None),
        ("a.jsonl:20", "a.jsonl", 20),
        ("c:/a.jsonl:5", "c:/a.jsonl", 5),
        ("a:b.jsonl", "a:b.jsonl", None),
    ):
        found = parse_record_file(given)
        assert (str(found.path), found.limit) == (path, limit)
    for none in ("a.jsonl:0", "a.jsonl:-3"):
        with pytest.raises(BadInput, match="at least 1 question"):
            parse_record_file(none)


def test_fit_needs_no_label_and_goes_on_with_those_it_made(place, tmp_path):
    rows = [
        {"id": row["id"], "question": row["question"], "docs": [{"text": doc["text"]}]}
        for row in example_records()
        for doc in row["docs"][:1]
    ]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "own.safetensors"
    words = ("--proxy", place / "llama", "--out", out, "--layers", 2, "--masks", 6)
    words = ("lab", "probe", "fit", "--unlabelled", tmp_path / "plain.jsonl", *words)
    done = tamis(*words, "--cache", place / "readings")
    assert done.exit_code == 0, done.output
    assert LinearProbe.load(out).card.trained_on[0]["name"] == "own"
    labels = tmp_path / "own.labels.jsonl"
    assert len(load_records(labels)) == len(rows)
    before = labels.read_bytes()
    assert tamis(*words, "--cache", place / "readings").exit_code == 0
    assert labels.read_bytes() == before
    few = tamis(
        *words[:4], f"{tmp_path / 'plain.jsonl'}:3", *words[5:], "--labels", tmp_path / "few"
    )
    assert few.exit_code == 2
    assert "a probe needs 10" in " ".join(few.stderr.split())


def test_rank_and_gate_are_fitted_for_a_proxy_of_ones_own(place):
    rows = example_records()
    texts = list(dict.fromkeys(d["text"] for row in rows for d in row["docs"]))
    corpus = [{"docid": str(i), "title": "", "text": text} for i, text in enumerate(texts)]
    queries = [
        {
            "qid": row["id"],
            "query": row["question"],
            "qrels": {str(texts.index(row["docs"][0]["text"])): 1},
            "candidates": {"bm25": [[str(texts.index(d["text"])), 1.0] for d in row["docs"]]},
        }
        for row in rows
    ]
    write(place / "corpus.jsonl", corpus)
    write(place / "queries.jsonl", queries)
    of_proxy = ("--proxy", place / "llama", "--cache", place / "readings")
    own = (*of_proxy, "--probe", place / "mine.safetensors")
    lists = ("lab", "probe", "rank", place / "queries.jsonl", "--corpus", place / "corpus.jsonl")
    stages = ("lab", "probe", "gate", "--stage", "units:1:3:2:.5", "--documents", "4")
    stages = (*stages, "--data", place / "records.jsonl")
    for command, name in ((lists, "rank"), (stages, "gate")):
        out = ("--out", place / f"{name}.safetensors")
        refused = tamis(*command, *out, *of_proxy)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "no probe for question_rows" in " ".join(refused.stderr.split())
        done = tamis(*command, *out, *own)
        assert done.exit_code == 0, done.output
        card = LinearProbe.load(place / f"{name}.safetensors").card
        assert (card.method, card.model, card.layers) == (name, "llama", 2)
