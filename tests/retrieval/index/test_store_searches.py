"""Searches: their arguments, conditions on documents, and the files that an open index holds."""

from __future__ import annotations

import datetime
import errno
import itertools
import os

import pytest

from tamis.probes.errors import BadInput
from tamis.probes.interruption import interruptible
from tamis.retrieval.index import writer
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, next_merge, open_writer
from tamis.retrieval.storage import files
from tamis.retrieval.storage.manifest import IndexSettings, SegmentEntry
from tamis.retrieval.storage.segment import find_faults
from tamis.text.types import CorpusDocument
from tests.retrieval.index.corpora import HARBOUR, build_index, make_documents, put


def test_a_search_that_is_over_ends_while_it_compares_documents_with_conditions(tmp_path):
    index = build_index(tmp_path / "i", make_documents(2_500))

    def checks(where):
        calls = itertools.count()
        with interruptible(lambda: next(calls)):
            index.search("word1", 3, where)
        return next(calls)

    assert checks({"i": {">=": 0}}) >= checks(None) + 3  # every thousand documents
    many = [f"i!={-n}" for n in range(1, 501)]
    assert checks(many) >= checks(None) + 1_250  # every thousand comparisons


@pytest.mark.parametrize("where", [5, [1], {3: 4}, {"n": {}}, b"n=3", {"n": {">=": None}}])
def test_a_condition_that_says_nothing_is_refused(tmp_path, where):
    with pytest.raises(BadInput):
        build_index(tmp_path / "i").search("harbour", 3, where)


@pytest.mark.parametrize("k", [2.5, "3", None])
def test_hits_are_counted_in_whole_numbers(tmp_path, k):
    with pytest.raises(BadInput, match="k is"):
        build_index(tmp_path / "i").search("harbour", k)


def test_a_documents_own_id_and_title_hide_metadata_of_that_name(tmp_path):
    index = build_index(
        tmp_path / "i",
        [
            CorpusDocument("d1", "word", "Own", {"id": "other", "title": "other"}),
            CorpusDocument("d2", "word", None, {"title": "other"}),
        ],
    )
    assert [hit.doc for hit in index.search("word", 3, {"id": "d1"})] == ["d1"]
    assert index.search("word", 3, {"id": "other"}) == []
    assert [hit.doc for hit in index.search("word", 3, "title=other")] == ["d2"]


def test_an_open_state_is_whole_though_a_writer_has_merged(tmp_path):
    home = tmp_path / "i"
    build_index(home, make_documents(20))
    opened = put(home, HARBOUR)
    with open_writer(home) as of:
        of.compact()
    assert opened.verify() == []
    assert find_faults(home) == []
    assert opened.search("harbour")


@pytest.mark.parametrize(
    ("title", "metadata"),
    [
        (1984, {}),
        (None, {"day": datetime.date(2020, 1, 1)}),
        (None, {1: 2, "b": 3}),
        (None, {"a": {"b": [{3: 4}]}}),
        (None, {"n": 10**4000}),
        (None, [1]),
    ],
)
def test_a_document_that_json_cannot_hold_is_refused(title, metadata):
    with pytest.raises(BadInput, match="document 'a' has"):
        CorpusDocument("a", "x", title, metadata)


def test_documents_without_chunks_are_committed_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BATCH_CHUNKS", 8)
    with create_index(tmp_path / "i", IndexSettings()) as of:
        of.put(CorpusDocument(str(i), " ") for i in range(17))
        assert of.manifest.generation == 3


def segment_entry(number: int, chunks: int) -> SegmentEntry:
    return SegmentEntry(f"{number:06d}", chunks, chunks, 0, 0, ())


def test_a_tier_that_does_not_fit_into_one_segment_is_merged_in_part():
    cards = [segment_entry(i, 16_384) for i in range(8)]
    assert next_merge(cards, {}) == cards[:4]
    assert next_merge([segment_entry(i, 65_536) for i in range(9)], {}) == []


def test_small_segments_hold_no_files_open(tmp_path):
    build_index(tmp_path / "i", make_documents(50))
    before = len(os.listdir("/proc/self/fd"))
    index = CorpusIndex.open(tmp_path / "i")
    assert index.search("word1 word2")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_file_holds_one_handle(tmp_path, monkeypatch):
    build_index(tmp_path / "i", make_documents(50))
    monkeypatch.setattr(files, "_SMALL_BYTES", 0)
    before = len(os.listdir("/proc/self/fd"))
    index = CorpusIndex.open(tmp_path / "i")
    assert index.search("word1 word2", where="i>=3")
    assert len(os.listdir("/proc/self/fd")) - before <= index.stats()["segments"] * 10
    assert index.verify() == []
    index.close()


def test_too_many_files_are_an_error_with_the_way_out(tmp_path, monkeypatch):
    build_index(tmp_path / "i")

    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("tamis.retrieval.storage.segment.CheckedFile", full)
    with pytest.raises(BadInput, match=r"tamis index optimise.*ulimit -n"):
        CorpusIndex.open(tmp_path / "i")
