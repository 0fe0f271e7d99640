"""A file written atomically is there whole, or as it was before."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tamis.probes.atomic_file import TEMPORARY_GLOB, atomic_path


@pytest.mark.parametrize("sync", [False, True])
def test_the_file_is_replaced_when_the_block_ends_and_no_earlier(
    tmp_path: Path, sync: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert list(tmp_path.glob(TEMPORARY_GLOB)) == [temporary]
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(failure):
        _fail_halfway(path, failure)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def _fail_halfway(path: Path, failure: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise failure


def test_the_failure_itself_is_raised_where_nothing_was_written_yet(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a") as _:
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_replacement_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    taken = tmp_path / "a"
    taken.mkdir()
    with pytest.raises(IsADirectoryError), atomic_path(taken, sync=True) as temporary:
        temporary.write_bytes(b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert taken.is_dir()


def test_many_writers_of_one_file_leave_the_whole_content_of_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([n]) * 100_000 for n in range(8)]

    def write(content: bytes) -> None:
        for _ in range(10):
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["a"]


_WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from tamis.probes.atomic_file import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file_and_what_the_pattern_finds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_WAIT, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        writer.kill()
    assert path.read_text() == "old"
    assert [file.read_text() for file in tmp_path.glob(TEMPORARY_GLOB)] == ["half"]


def test_a_synced_write_reaches_the_disk_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "a", list[str]()
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(_kind(fd)), fsync(fd))[1])
    monkeypatch.setattr(
        os, "replace", lambda old, new: (events.append("replace"), replace(old, new))[1]
    )
    with atomic_path(path, sync=True) as temporary:
        temporary.write_text("new")
    assert events == ["file", "replace", "folder"]


def _kind(descriptor: int) -> str:
    return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
