"""Writers that are killed, writers that meet, and readers in the middle of it."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from tamis.probes.errors import IndexBusy
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import open_writer
from tamis.text.types import CorpusDocument
from tests.chaos.index_kills import run
from tests.retrieval.index.corpora import build_index

VERSIONS, DOCUMENTS = 5, 6


def test_no_kill_loses_what_was_acknowledged_or_leaves_half_a_change(tmp_path):
    """A short form of `python -m tests.chaos.index_kills`."""
    found = run(tmp_path / "i", kills=3)
    assert found["between_first_and_last_commit"] >= 2


def documents_of(version: int) -> list[CorpusDocument]:
    return [CorpusDocument(f"d{i}", f"word document{i} version{version}") for i in range(DOCUMENTS)]


def read_until_stopped(home: Path, stop, answers) -> None:
    """Every answer holds each document once, all of one version, and versions never go back."""
    last, searches = 0, 0
    index = CorpusIndex.open(home)
    while not stop.is_set():
        index = index.newest()
        hits = index.search("word", 50)
        versions = {int(hit.text.split("version")[1]) for hit in hits}
        if sorted(hit.doc for hit in hits) != [f"d{i}" for i in range(DOCUMENTS)]:
            answers.put(f"torn: {[hit.id for hit in hits]}")
            return
        if len(versions) != 1 or min(versions) < last:
            answers.put(f"mixed: {versions} after {last}")
            return
        last, searches = min(versions), searches + 1
    answers.put(searches)


def write_versions(home: Path, refused) -> None:
    """All versions, one commit each; refused where another writer is at work."""
    for version in range(1, VERSIONS + 1):
        try:
            with open_writer(home) as writer:
                writer.put(documents_of(version))
                if version % 3 == 0:
                    writer.compact()
                time.sleep(0.05)
        except IndexBusy as error:
            refused.put(str(error))
            return


def test_readers_beside_two_writers_never_see_half_a_commit(tmp_path):
    home = tmp_path / "i"
    build_index(home, documents_of(0))
    fork = multiprocessing.get_context("fork")
    stop, answers, refused = fork.Event(), fork.Queue(), fork.Queue()
    readers = [
        fork.Process(target=read_until_stopped, args=(home, stop, answers)) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    with open_writer(home) as writer:
        second = fork.Process(target=write_versions, args=(home, refused))
        second.start()
        assert "is being written by another process" in refused.get(timeout=600)
        second.join()
        writer.put(documents_of(0))
    write_versions(home, refused)
    stop.set()
    found = [answers.get(timeout=600) for _ in readers]
    for reader in readers:
        reader.join()
    assert all(isinstance(searches, int) and searches > 0 for searches in found), found
    assert CorpusIndex.open(home).verify() == []
