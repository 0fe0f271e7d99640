"""An index that is built anew while the old one serves, and builds that were cut short."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.storage.manifest import BUILDING, IndexSettings
from tamis.text.types import CorpusDocument
from tests.retrieval.index.corpora import BREAD, build_index, make_documents, put

NEW = [CorpusDocument(f"n{i}", f"fresh word{i}") for i in range(20)]


def document_ids(home) -> list[str]:
    return sorted(record["id"] for record in CorpusIndex.open(home).documents())


def interrupt_build(home, documents, **how):
    """Puts some documents and ends before the build is finished."""

    def build():
        with create_index(home, IndexSettings(), **how) as writer:
            writer.put(documents)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build()


def test_the_old_index_serves_until_the_new_one_is_finished(tmp_path):
    home = tmp_path / "i"
    old = sorted(doc.id for doc in make_documents(5))
    reader = build_index(home, make_documents(5))
    with create_index(home, IndexSettings(), overwrite=True) as writer:
        writer.put(NEW)
        assert document_ids(home) == old
        assert reader.newest() is reader
        writer.finish()
    assert document_ids(home) == sorted(doc.id for doc in NEW) != old
    assert reader.newest().search("fresh")
    assert len(os.listdir(home / "segments")) == 1
    assert not (home / BUILDING).exists()


def test_a_rebuild_that_was_cut_short_leaves_the_old_index_and_goes_on(tmp_path):
    home = tmp_path / "i"
    build_index(home, make_documents(5))
    interrupt_build(home, NEW[:7], overwrite=True, sources="a")
    assert document_ids(home) == sorted(doc.id for doc in make_documents(5))
    put(home, BREAD)  # the old one can be written meanwhile
    assert "bread" in document_ids(home)
    assert CorpusIndex.open(home).verify() == []
    with create_index(home, IndexSettings(), overwrite=True, sources="a") as writer:
        assert writer.put(NEW).unchanged == 7
        writer.finish()
    assert document_ids(home) == sorted(doc.id for doc in NEW)
    assert CorpusIndex.open(home).verify() == []


def test_a_rebuild_of_another_corpus_begins_anew(tmp_path):
    home = tmp_path / "i"
    build_index(home, make_documents(5))
    interrupt_build(home, NEW[:7], overwrite=True, sources="a")
    with create_index(home, IndexSettings(), overwrite=True, sources="b") as writer:
        assert len(writer) == 0
        writer.put([BREAD])
        writer.finish()
    assert document_ids(home) == ["bread"]
    assert len(os.listdir(home / "segments")) == 1


def test_a_build_that_was_cut_short_does_not_go_on_with_another_corpus(tmp_path):
    interrupt_build(tmp_path / "i", NEW[:3], sources="a")
    with (
        pytest.raises(BadInput, match=r"of another corpus.*--overwrite"),
        create_index(tmp_path / "i", IndexSettings(), sources="b"),
    ):
        pass
    with create_index(tmp_path / "i", IndexSettings(), overwrite=True, sources="b") as writer:
        writer.put([BREAD])
        writer.finish()
    assert document_ids(tmp_path / "i") == ["bread"]


def test_a_resumed_build_holds_what_the_corpus_holds_now(tmp_path):
    interrupt_build(tmp_path / "i", NEW[:3], sources="a")
    with create_index(tmp_path / "i", IndexSettings(), sources="a") as writer:
        writer.put(NEW[1:5])
        writer.finish(exact=True)
    assert document_ids(tmp_path / "i") == ["n1", "n2", "n3", "n4"]
    assert CorpusIndex.open(tmp_path / "i").stats()["documents_deleted"] == 0


@pytest.mark.parametrize("damage", ["{}", '{"format": 1}', ""])
def test_an_index_whose_manifest_is_damaged_is_built_over(tmp_path, damage):
    home = tmp_path / "i"
    build_index(home, make_documents(5))
    (home / "manifest.json").write_text(damage)
    with pytest.raises(BadIndex, match="--overwrite"):
        CorpusIndex.open(home)
    interrupt_build(home, NEW[:7], overwrite=True)
    assert (home / "segments/000001/docs.jsonl").exists()  # nothing of it is known: nothing goes
    with create_index(home, IndexSettings(), overwrite=True) as writer:
        writer.put(NEW)
        writer.finish()
    assert document_ids(home) == sorted(doc.id for doc in NEW)
    assert len(os.listdir(home / "segments")) == 1


def test_an_index_without_its_empty_folder_is_written_on(tmp_path):
    build_index(tmp_path / "i", [])
    (tmp_path / "i/segments").rmdir()
    assert put(tmp_path / "i", BREAD).search("bread")


def rebuild_without_end(home, pipe) -> None:
    """Rebuilds the index again and again; writes a byte after each time."""
    for round_ in range(1000):
        documents = [
            CorpusDocument(f"r{round_}-{i}", f"fresh round{round_} word{i}") for i in range(9)
        ]
        with create_index(home, IndexSettings(), overwrite=True, sources=str(round_)) as writer:
            for document in documents:
                writer.put([document])
            writer.finish()
        os.write(pipe, b"f")


def test_a_rebuild_killed_at_any_moment_leaves_one_whole_index(tmp_path):
    home = tmp_path / "i"
    build_index(home, [CorpusDocument(f"r-1-{i}", "old") for i in range(9)])
    for turn in range(6):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                rebuild_without_end(home, write_end)
            finally:
                os._exit(0)
        os.close(write_end)
        os.read(read_end, 1)
        time.sleep(0.017 * turn)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_end)
        found = document_ids(home)
        assert len(found) == 9
        assert len({name.rsplit("-", 1)[0] for name in found}) == 1
        assert CorpusIndex.open(home).verify() == []
    with open_writer(home) as writer:
        writer.put([BREAD])
    with create_index(home, IndexSettings(), overwrite=True) as writer:
        writer.put(NEW)
        writer.finish()
    assert document_ids(home) == sorted(doc.id for doc in NEW)
    assert len(os.listdir(home / "segments")) == 1
