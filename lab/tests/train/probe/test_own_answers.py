"""Labels from a model's own answers: effects of sentences, records, and runs that go on."""

from __future__ import annotations

import json

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.methods.window_attention import kit
from tamis.compressors import registry
from tamis.probes.errors import BadInput
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.datasets.records import load_records
from tamis_lab.train.heads.masked_answers import first_sentences
from tamis_lab.train.probe.own_answers import (
    check_unlabelled,
    gold_sentences,
    label_file,
    label_record,
    sentence_effects,
)

TOWN = (
    "The harbour lies in the north of the town. The bridge was opened in 1932 by the mayor. "
    "Its arches were made of granite from a quarry near the coast. On Tuesdays a market is held "
    "below it."
)


@pytest.fixture(scope="module")
def proxy(proxy_folder):
    return registry.load_proxy(str(proxy_folder), None)


def nothing(name, done, total):
    pass


@pytest.mark.parametrize("seed", range(5))
def test_effects_of_an_answer_that_adds_up_are_what_each_sentence_adds(seed):
    chance = torch.Generator().manual_seed(seed)
    adds = torch.tensor([0.0, 3.0, 0.5, -1.0])
    kept = torch.randint(2, (60, 4), generator=chance).float()
    torch.testing.assert_close(
        sentence_effects(kept, kept @ adds - 2, ridge=1e-6), adds, atol=1e-3, rtol=0
    )
    assert gold_sentences(sentence_effects(kept, kept @ adds - 2)) == [1]


def test_masks_that_leave_nothing_out_say_nothing():
    effects = sentence_effects(torch.ones(8, 3), torch.randn(8))
    assert effects.tolist() == [0, 0, 0]
    assert gold_sentences(effects) == []


def test_gold_is_what_is_worth_half_of_the_best_and_a_nat():
    assert gold_sentences(torch.tensor([1.1, 2.2, 1.0])) == [0, 1]
    assert gold_sentences(torch.tensor([0.9, 0.2])) == []


def test_sentences_are_found_in_their_own_documents_and_end_with_the_tokens():
    made = kit.proxy()
    row = record("r", "Who?", doc("Ann ran.", "Bob sat."), doc("Cid hid."))
    texts = [d["text"] for d in row["docs"]]
    found = first_sentences(made, row, 400)
    assert [texts[d][a:b] for d, a, b in found.places] == ["Ann ran.", "Bob sat.", "Cid hid."]
    fewer = first_sentences(made, row, found.spans[1][1])
    assert (fewer.places, fewer.spans) == (found.places[:2], found.spans[:2])
    assert fewer.ids == found.ids[: found.spans[1][1]]


@pytest.mark.model
@pytest.mark.parametrize(
    ("question", "word"),
    [("What were the arches made of?", "granite"), ("On which day is a market held?", "Tuesdays")],
)
def test_a_real_models_answer_depends_on_the_sentence_that_holds_it(proxy, question, word):
    row = {"id": "r", "question": question, "docs": [{"text": TOWN}]}
    made = label_record(proxy, row, masks=16, tokens=400)["docs"][0]
    (gold,) = made["gold"]
    assert word in made["text"][slice(*made["sents"][gold])]


def test_a_run_goes_on_behind_what_it_wrote_and_forgets_a_torn_line(tmp_path):
    rows = [record(f"r{i}", "Who?", doc("Ann ran.", f"Bob sat {i}.")) for i in range(4)]
    made, labels = kit.proxy(), tmp_path / "labels.jsonl"
    useful = label_file(made, rows[:3], labels, masks=4, tokens=60, report=nothing)
    assert len(load_records(labels)) == 3
    lines = labels.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0]) | {"mark": "not asked again"}
    labels.write_bytes(json.dumps(first).encode() + b"\n" + lines[1][:20])
    assert label_file(made, rows[:3], labels, masks=4, tokens=60, report=nothing) == useful
    again = labels.read_bytes().splitlines(keepends=True)
    assert json.loads(again[0]) == first
    assert again[1:] == lines[1:]
    # the same question of another text is another label
    rows[0]["docs"] = [doc("Ann ran.", "Bob hid.")]
    label_file(made, rows[:1], labels, masks=4, tokens=60, report=nothing)
    assert len(load_records(labels)) == 4


def test_labels_of_another_run_are_not_mixed_in(tmp_path):
    rows = [record("r", "Who?", doc("Ann ran.", "Bob sat."))]
    labels = tmp_path / "labels.jsonl"
    label_file(kit.proxy(), rows, labels, masks=4, tokens=60, report=nothing)
    with pytest.raises(BadInput, match="name another --labels"):
        label_file(kit.proxy(), rows, labels, masks=5, tokens=60, report=nothing)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.jsonl", b'{"id": "1", "question": "Q?", "docs": []}\n{"id": "2"}'),
        ("one.json", b'{"id": "1", "question": "Q?", "docs": []}'),
        ("mine.jsonl.gz", b"\x1f\x8b"),
        ("new.jsonl.gz", None),
    ],
)
def test_a_file_of_someone_elses_is_refused_and_stays_as_it_is(tmp_path, name, content):
    labels = tmp_path / name
    if content is not None:
        labels.write_bytes(content)
    rows = [record("r", "Who?", doc("Ann ran.", "Bob sat."))]
    with pytest.raises(BadInput, match=r"--labels|name a .jsonl"):
        label_file(kit.proxy(), rows, labels, masks=4, tokens=60, report=nothing)
    assert (labels.read_bytes() if labels.exists() else None) == content


def test_questions_too_few_to_fit_on_are_refused_before_a_model_is_loaded(tmp_path):
    def of(rows):
        return [RecordFile(write(tmp_path / "in.jsonl", rows))]

    rows = [record(f"r{i}", "Who?", doc("Ann ran.", f"Bob sat {i % 3}.")) for i in range(12)]
    with pytest.raises(BadInput, match="a probe needs 10"):
        check_unlabelled(of(rows[:9]))
    with pytest.raises(BadInput, match="about 3 passages"):
        check_unlabelled(of(rows))
    with pytest.raises(BadInput, match="give each its own"):
        check_unlabelled(of([{**row, "id": None} for row in rows]))


def test_all_sentences_together_are_the_text_that_was_answered():
    made = kit.proxy()
    found = first_sentences(made, record("r", "Who?", doc("Ann ran."), doc("Bob sat.")), 400)
    assert [b for _, b in found.spans[:-1]] == [a for a, _ in found.spans[1:]]
    assert (found.spans[0][0], found.spans[-1][1]) == (0, len(found.ids))


def test_a_text_longer_than_what_is_read_is_cut_behind_a_sentence():
    made = kit.proxy()
    row = record("r", "Who?", doc("Ann ran.", "Bob sat."), doc("Cid hid."))
    stop = first_sentences(made, row, 400).spans[0][1]
    labelled = label_record(made, row, masks=4, tokens=max(16, stop))
    assert all(d["text"] for d in labelled["docs"])
    for mine, given in zip(labelled["docs"], row["docs"], strict=False):
        assert given["text"].startswith(mine["text"])
