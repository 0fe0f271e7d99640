"""Labelled records: what is none is refused with file and number, and counts for nothing."""

from __future__ import annotations

import json

import pytest

from lab.tests.bench.records import doc, record, write
from tamis.probes.errors import BadInput
from tamis_lab.datasets.record_files import fold_of
from tamis_lab.datasets.records import is_covered, load_records, record_id


def one(**changes):
    """A record whose second document is changed."""
    return record("r", "Who?", doc("Ann."), {**doc("Bob.", "Cid.", gold=[1]), **changes})


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (record("r", "Who?", "ref"), "document 0 has no 'text'"),
        (one(text=7), "document 1 has no 'text' but 7"),
        (one(title=7), "document 1 has the 'title' 7"),
        (one(sents=None), "document 1 has the 'sents' None"),
        (one(sents=[[0, 4, 5], [5, 9]]), "give [start, stop] each"),
        (one(sents=[[0, "4"], [5, 9]]), "give [start, stop] each"),
        (one(sents=[[0, 4.0], [5, 9]]), "give [start, stop] each"),
        (one(sents=[7]), "give [start, stop] each"),
        (one(sents=[[0, 4], [5, 10]]), "the sentence [5, 10] outside its text of 9 characters"),
        (one(sents=[[-1, 4], [5, 9]]), "the sentence [-1, 4] outside"),
        (one(sents=[[4, 0], [5, 9]]), "the sentence [4, 0] outside"),
        (one(gold=[-1]), "document 1 has the 'gold' [-1]; give places among its 2 'sents'"),
        (one(gold=[2]), "document 1 has the 'gold' [2]"),
        (one(gold=None), "document 1 has the 'gold' None"),
        (one(gold=[True]), "document 1 has the 'gold' [True]"),
        ({**one(), "answer_spans": [[2, 0, 3]]}, "'answer_spans' is [[2, 0, 3]]"),
        ({**one(), "answer_spans": [[-1, 0, 3]]}, "'answer_spans' is [[-1, 0, 3]]"),
        ({**one(), "answer_spans": [[0, 0, 30]]}, "inside the document's text"),
        ({**one(), "answer_spans": [[0, 3]]}, "give [document, start, stop] each"),
        ({**one(), "answer_spans": 7}, "give [document, start, stop] each"),
    ],
)
def test_a_record_that_labels_nothing_is_refused_by_its_number(tmp_path, row, says):
    path = write(tmp_path / "set.jsonl", [one(), row])
    with pytest.raises(BadInput) as refused:
        load_records(path)
    assert f"{path}, record 2: " in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("stored", "ref", "says"),
    [
        ({**doc("Ann."), "doc_id": "a"}, "b", "record 1: a document refers to 'b'"),
        ({**doc("Ann."), "doc_id": "a"}, ["a"], "record 1: a document refers to ['a']"),
        (doc("Ann."), "a", "set_docs.jsonl, document 1: no 'doc_id'"),
        ({"doc_id": "a"}, "a", "set_docs.jsonl, document 1: has no 'text' but None"),
    ],
)
def test_a_reference_without_its_document_is_refused(tmp_path, stored, ref, says):
    write(tmp_path / "set_docs.jsonl", [stored])
    path = write(tmp_path / "set.jsonl", [record("r", "Who?", {"ref": ref, "gold": [0]})])
    with pytest.raises(BadInput) as refused:
        load_records(path)
    assert says in str(refused.value)


def test_gold_of_a_stored_document_lies_among_its_sentences(tmp_path):
    write(tmp_path / "set_docs.jsonl", [{**doc("Ann."), "doc_id": "a"}])
    rows = [record("r", "Who?", {"ref": "a", "gold": [i]}) for i in (0, 1)]
    assert load_records(write(tmp_path / "set.jsonl", rows[:1]))[0]["docs"][0]["text"] == "Ann."
    with pytest.raises(BadInput, match="record 2: document 0 has the 'gold'"):
        load_records(write(tmp_path / "set.jsonl", rows))


def test_a_sentence_without_a_visible_character_is_never_kept():
    assert is_covered("Ann.  Bob.", [(0, 4)], 0, 4)
    assert not is_covered("Ann.  Bob.", [(0, 10)], 4, 6)
    assert not is_covered("Ann.", [(0, 4)], 9, 12)


def test_a_record_without_an_id_is_refused():
    assert record_id({"id": 7, "question": "Who?"}) == "7"
    with pytest.raises(BadInput, match=r"'Who\?' has the 'id' None; give each its own"):
        record_id({"question": "Who?"})


def test_a_record_that_is_whole_is_read_as_it_was_written(tmp_path):
    rows = [one(), {**one(), "answer_spans": [[0, 0, 3]]}]
    assert load_records(write(tmp_path / "set.jsonl", rows)) == json.loads(json.dumps(rows))


MARKED = {
    "id": "keys",
    "source": {"repo": "who/what"},
    "format": "markdown",
    "text": "# Keys\n\nThey turn. Ask Ann about it.\nRooms are red.\n",
    "questions": [
        {"q": "Who knows?", "answerable": True, "must": [["Bob", "Ann"]], "gold": [[4, 4]]},
        {"q": "Since when?", "answerable": False, "must": [], "gold": []},
    ],
}


def test_a_marked_document_is_a_record_for_each_question(tmp_path):
    """Gold is what is marked and what the answer needs; a near miss has none."""
    known, open_ = load_records(write(tmp_path / "marked.jsonl", [MARKED]))
    (shown,) = known["docs"]
    texts = [shown["text"][a:b] for a, b in shown["sents"]]
    assert [texts[i] for i in shown["gold"]] == ["Ask Ann about it.", "Rooms are red."]
    assert (known["answerable"], open_["answerable"]) == (True, False)
    assert open_["docs"][0]["gold"] == []


def test_a_marked_document_has_the_domain_of_its_format_or_of_other_languages(tmp_path):
    """A fit weighs and scales each domain apart; what stands in a file's name would be one."""
    kinds = {"": "markdown", "en": "log", "de": "log", "th": "markdown"}
    rows = [
        MARKED | {"id": lang, "format": kind} | ({"lang": lang} if lang else {})
        for lang, kind in kinds.items()
    ]
    records = load_records(write(tmp_path / "marked.jsonl", rows))
    other = "documents in other languages"
    domains = ["markdown documents", "log documents", other, other]
    assert [r["domain"] for r in records[::2]] == [r["domain"] for r in records[1::2]] == domains


def test_questions_of_a_repository_share_a_fold(tmp_path):
    """A fit that leaves a fold out has seen no text of its authors."""
    rows = [MARKED | {"id": str(i), "text": f"{MARKED['text']}{i}"} for i in range(20)]
    assert len({fold_of(r) for r in load_records(write(tmp_path / "marked.jsonl", rows))}) == 1
    others = [row | {"source": {"repo": row["id"]}} for row in rows]
    assert len({fold_of(r) for r in load_records(write(tmp_path / "others.jsonl", others))}) > 1


def test_lines_outside_a_marked_document_are_refused(tmp_path):
    """With the file and the line."""
    far = MARKED | {"questions": [MARKED["questions"][0] | {"gold": [[4, 9]]}]}
    with pytest.raises(BadInput, match=r"marked\.jsonl, line 1 is no document with marked lines"):
        load_records(write(tmp_path / "marked.jsonl", [far]))
