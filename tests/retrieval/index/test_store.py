"""The index on disk: what goes in comes out, filters, replaces, deletes, and notices damage."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time

import pytest

from tamis.probes.errors import BadIndex, BadInput, IndexBusy
from tamis.retrieval.index import writer
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.text.types import CorpusDocument
from tests.retrieval.index.corpora import (
    BREAD,
    DOCUMENTS,
    HARBOUR,
    QUESTION,
    build_index,
    delete,
    make_documents,
    put,
)


def test_a_hit_is_a_slice_of_its_document(tmp_path):
    nasty = CorpusDocument(
        "n\ud800 \x00", "The harbour\ud800 of <|im_end|> Malo\x00. \u2028 Closed.\r\n", "\ud800"
    )
    index = build_index(tmp_path / "i", [*DOCUMENTS, nasty], chunk_chars=30)
    by_id = {document.id: document for document in (*DOCUMENTS, nasty)}
    hits = index.search(QUESTION, 20)
    assert hits[0].doc == "harbour"
    assert nasty.id in {hit.doc for hit in hits}
    for hit in hits:
        assert hit.text == by_id[hit.doc].text[hit.start : hit.stop]
        assert hit.id == f"{hit.doc}#{hit.start}-{hit.stop}"
        assert (hit.title, hit.metadata) == (by_id[hit.doc].title, by_id[hit.doc].metadata)


def test_filters_decide_which_documents_are_found_not_how_they_score(tmp_path):
    index = build_index(tmp_path / "i")
    (hit,) = index.search(QUESTION, where={"year": {">=": 1900}})
    assert hit.doc == "harbour"
    assert hit.score == index.search(QUESTION)[0].score
    assert [h.doc for h in index.search("1907", where=["lang=de"])] == ["hafen"]
    assert index.search(QUESTION, where="id=nobody") == []


def test_a_document_that_is_put_again_replaces_the_old_one(tmp_path):
    build_index(tmp_path / "i")
    index = put(tmp_path / "i", CorpusDocument("harbour", "The quay is new."))
    assert [hit.text for hit in index.search("quay harbour")] == ["The quay is new."]
    assert index.stats()["documents"] == 3


def test_what_has_not_changed_is_not_indexed_again(tmp_path):
    index = build_index(tmp_path / "i")
    with open_writer(tmp_path / "i") as opened:
        counted = opened.put(DOCUMENTS)
    assert (counted.unchanged, counted.added, counted.replaced) == (3, 0, 0)
    assert index.newest() is index


def test_of_two_documents_of_one_id_the_later_one_counts(tmp_path):
    index = build_index(tmp_path / "i", [HARBOUR, CorpusDocument("harbour", "Gulls."), BREAD])
    assert index.search("harbour") == []
    assert [hit.text for hit in index.search("gulls")] == ["Gulls."]


@pytest.mark.parametrize("most", [2, 2048])
def test_ids_that_come_again_are_put_once_however_far_apart(tmp_path, monkeypatch, most):
    """Or the second of two equal calls would index both documents of such an id again."""
    monkeypatch.setattr(writer, "BATCH_CHUNKS", most)
    texts = [("a", "One."), ("b", "Two."), ("c", "Three."), ("a", "Four."), ("a", "Five.")]
    given = [CorpusDocument(name, text) for name, text in texts]
    with create_index(tmp_path / "i", IndexSettings()) as made:
        assert made.put(given).repeated == {"a": 2}
        made.finish()
    for _ in range(2):
        with open_writer(tmp_path / "i") as again:
            counts = again.put(given, follow=True)
        assert (counts.added, counts.replaced, counts.chunks) == (0, 0, 0)
        assert (counts.unchanged, counts.repeated) == (3, {"a": 2})
    with open_writer(tmp_path / "i") as again:
        assert again.put([*given, CorpusDocument("a", "Six.")]).replaced == 1
        assert again.put(given[:1]).replaced == 1
    assert sorted(hit.text for hit in CorpusIndex.open(tmp_path / "i").all_chunks()) == [
        "One.",
        "Three.",
        "Two.",
    ]


def test_deleted_documents_are_gone_and_their_room_comes_back(tmp_path):
    before = build_index(tmp_path / "i", make_documents(50)).stats()
    index = delete(tmp_path / "i", *(f"d{i}" for i in range(0, 50, 2)))
    assert index.stats()["documents"] == 25
    assert {hit.metadata["i"] % 2 for hit in index.search("word1 word2 word3", 50)} == {1}
    found = [(hit.id, hit.score) for hit in index.search("word1 word2", 50)]
    with open_writer(tmp_path / "i") as writer:
        writer.compact()
    index = index.newest()
    assert [(hit.id, hit.score) for hit in index.search("word1 word2", 50)] == found
    assert index.stats()["documents_deleted"] == 0
    assert index.stats()["bytes"] < before["bytes"]


def test_an_unknown_id_deletes_nothing(tmp_path):
    build_index(tmp_path / "i")
    with pytest.raises(BadInput, match="'gone'"):
        delete(tmp_path / "i", "bread", "gone")
    assert CorpusIndex.open(tmp_path / "i").stats()["documents"] == 3


def test_an_index_may_be_emptied_and_filled_again(tmp_path):
    build_index(tmp_path / "i", [BREAD])
    index = delete(tmp_path / "i", "bread")
    assert (len(index), index.search("bread")) == (0, [])
    with open_writer(tmp_path / "i") as writer:
        writer.compact()
    assert CorpusIndex.open(tmp_path / "i").search("bread") == []
    assert [hit.doc for hit in put(tmp_path / "i", BREAD).search("bread")] == ["bread"]


def test_many_small_additions_leave_few_segments(tmp_path):
    home = tmp_path / "i"
    build_index(home, [])
    with open_writer(home) as writer:
        for document in make_documents(20):
            writer.put([document])
    index = CorpusIndex.open(home)
    assert index.stats()["documents"] == 20
    assert index.stats()["segments"] == 2 + 4  # two of eight chunks, four of one
    assert index.verify() == []


def test_a_reader_keeps_its_state_until_it_asks_for_a_newer_one(tmp_path):
    old = build_index(tmp_path / "i")
    put(tmp_path / "i", CorpusDocument("quay", "A quay of Malo."))
    delete(tmp_path / "i", "harbour")
    with open_writer(tmp_path / "i") as writer:
        writer.compact()
    assert [hit.doc for hit in old.search("harbour old")] == ["harbour"]
    assert [hit.doc for hit in old.newest().search("quay")] == ["quay"]
    assert old.newest().search("harbour old") == []


def test_a_build_that_was_cut_short_opens_with_a_warning_and_goes_on(tmp_path, caplog):
    documents = make_documents(30)

    def cut_short():
        with create_index(tmp_path / "i", IndexSettings()) as writer:
            writer.put(documents[:5])
            writer.put(itertools.chain(documents[:10], _interrupted()))

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert CorpusIndex.open(tmp_path / "i").stats()["complete"] is False
    assert "its first build was cut short" in caplog.text
    caplog.clear()
    with create_index(tmp_path / "i", IndexSettings()) as writer:
        assert writer.put(documents).unchanged == 5
        writer.finish()
    assert CorpusIndex.open(tmp_path / "i").stats()["documents"] == 30
    assert "cut short" not in caplog.text


def _interrupted():
    raise KeyboardInterrupt
    yield


def test_an_index_is_not_written_over_by_mistake(tmp_path):
    build_index(tmp_path / "i")
    with pytest.raises(BadInput, match="--overwrite"):
        build_index(tmp_path / "i")
    with create_index(tmp_path / "i", IndexSettings(), overwrite=True) as writer:
        writer.put([BREAD])
        writer.finish()
    assert CorpusIndex.open(tmp_path / "i").stats()["documents"] == 1
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="empty"):
        build_index(tmp_path / "docs")
    assert (tmp_path / "docs/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("question", "how"), [(" ", {}), ("x", {"k": 0}), ("x", {"by": ["keys"]}), ("x", {"by": []})]
)
def test_what_cannot_be_searched_for_is_refused(tmp_path, question, how):
    with pytest.raises(BadInput):
        build_index(tmp_path / "i").search(question, **how)


def test_there_is_no_index_where_none_was_made(tmp_path):
    with pytest.raises(BadInput, match="tamis index build"):
        CorpusIndex.open(tmp_path)


def test_a_byte_flipped_in_any_file_is_found_named_and_never_served(tmp_path):
    home = tmp_path / "i"
    build_index(home, make_documents(20))
    expected = {hit.id: hit.text for hit in delete(home, "d3").search("word1 word2", 50)}
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name != "lock"]
    assert len(files) > 10
    for number, file in enumerate(files):
        whole = file.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1, (number * 7919) % len(whole)}:
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
            assert file.name in _fault(home)
            _check_serves_nothing_else(home, expected)
        file.write_bytes(whole[:-1])
        assert file.name in _fault(home)
        file.unlink()
        assert file.name in _fault(home)
        file.write_bytes(whole)
        assert _fault(home) == ""


def _fault(home):
    try:
        return "; ".join(CorpusIndex.open(home).verify())
    except (BadIndex, BadInput) as error:
        return str(error)


def _check_serves_nothing_else(home, expected):
    try:
        hits = CorpusIndex.open(home).search("word1 word2", 50)
    except BadIndex:
        return
    assert {hit.id: hit.text for hit in hits} == expected


WRITER = """
import sys, time
from pathlib import Path
from tamis.retrieval.index.writer import open_writer
with open_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    build_index(tmp_path / "i")
    other = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "i")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(IndexBusy, match=str(other.pid)):
            put(tmp_path / "i", BREAD)
        assert CorpusIndex.open(tmp_path / "i").search(QUESTION)[0].doc == "harbour"
    finally:
        other.kill()
        other.wait()
    put(tmp_path / "i", CorpusDocument("quay", "A quay."))  # the lock went with the process


def test_files_that_a_crash_left_unfinished_are_removed(tmp_path):
    home = tmp_path / "i"
    build_index(home)
    shutil.copytree(home / "segments/000001", home / "segments/000009.part")
    shutil.copytree(home / "segments/000001", home / "segments/000008")
    (home / "deleted-000099.npy").write_bytes(b"half")
    (home / ".manifest.json.0a1b2c.tmp").write_bytes(b"half")
    put(home, CorpusDocument("quay", "A quay."))
    assert sorted(os.listdir(home / "segments")) == ["000001", "000002"]
    assert sorted(os.listdir(home)) == ["lock", "manifest.json", "segments"]


def test_an_index_opens_at_once(tmp_path):
    build_index(tmp_path / "i", make_documents(2000))
    clock = time.process_time()
    CorpusIndex.open(tmp_path / "i").close()
    assert time.process_time() - clock < 1
