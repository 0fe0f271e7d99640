"""Kept passages on disk: whatever is wrong with a file, it is named and never served."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tamis.probes.atomic_file import TEMPORARY_GLOB
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache import disk
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.disk import CacheFiles
from tests.probes.kv_cache.cache_kit import (
    assert_close,
    entry_files,
    fill_folder,
    make_prompts,
    versioned_proxy,
    weights,
)
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")
def test_entries_are_readable_by_their_owner_alone(tmp_path):
    fill_folder(tmp_path)
    assert {file.stat().st_mode & 0o777 for file in entry_files(tmp_path)} == {0o600}


def test_the_folder_stays_below_its_limit(tmp_path):
    proxy = versioned_proxy()
    texts = [(None, f"Passage number {i} is as long as the others.") for i in range(9)]
    prompts = make_prompts(proxy, texts=texts)
    weights(CachedReader(proxy, PassageCache(folder=tmp_path)), prompts[:1])
    limit = entry_files(tmp_path)[0].stat().st_size * 4
    cache = PassageCache(folder=tmp_path, max_disk_bytes=limit)
    assert_close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
    assert 0 < sum(file.stat().st_size for file in entry_files(tmp_path)) <= limit
    assert cache.stats().files == len(entry_files(tmp_path))


def test_a_flipped_bit_anywhere_is_reported_dropped_and_never_served(tmp_path):
    proxy, plain = fill_folder(tmp_path)
    chance = random.Random(0)
    for file in entry_files(tmp_path):
        data = bytearray(file.read_bytes())
        header = int.from_bytes(data[:8], "little")
        # in the length, the header, its padding, the digest and the tensors, one at a time
        places = {0, 7, 8, header + 7, data.index(b'"sha256":"') + 12, len(data) - 1}
        for at in places | {chance.randrange(len(data)) for _ in range(20)}:
            torn = bytearray(data)
            torn[at] ^= 1 << chance.randrange(8)
            file.write_bytes(torn)
            cache = PassageCache(folder=tmp_path)
            assert [fault.file for fault in cache.verify()] == [file], at
            assert cache.get(file.stem, 1) is None
            assert cache.stats().dropped == 1
            assert not file.exists()
        file.write_bytes(data)
    assert PassageCache(folder=tmp_path).verify() == []
    for file in entry_files(tmp_path):
        torn = bytearray(file.read_bytes())
        torn[chance.randrange(len(torn))] ^= 0xFF
        file.write_bytes(torn)
    cache = PassageCache(folder=tmp_path)
    assert_close(weights(CachedReader(proxy, cache), make_prompts(proxy)), plain)
    assert cache.stats().dropped == 4
    assert cache.verify() == []  # read again, and written again


@pytest.mark.parametrize("how", ["empty", "cut", "grown", "other key", "foreign", "text"])
def test_a_torn_or_foreign_file_is_reported_dropped_and_never_served(how, tmp_path):
    proxy, plain = fill_folder(tmp_path)
    one, other = entry_files(tmp_path)[:2]
    data = one.read_bytes()
    made = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "grown": data + b"\0",
        "other key": other.read_bytes(),
        "foreign": __import__("safetensors.torch").torch.save({"keys": torch.zeros(1)}),
        "text": b"no tensors here",
    }
    one.write_bytes(made[how])
    cache = PassageCache(folder=tmp_path)
    assert [fault.file for fault in cache.verify()] == [one]
    assert_close(weights(CachedReader(proxy, cache), make_prompts(proxy)), plain)
    assert cache.stats().dropped == 1
    assert cache.verify() == []


def test_later_changes_to_a_loaded_file_are_not_served(tmp_path):
    proxy, plain = fill_folder(tmp_path)
    cache = PassageCache(folder=tmp_path)
    reader = CachedReader(proxy, cache)
    weights(reader, make_prompts(proxy))
    for file in entry_files(tmp_path):
        with file.open("r+b") as stream:  # in place: a map of the file would see it
            stream.write(b"\xff" * file.stat().st_size)
    assert_close(weights(reader, make_prompts(proxy)), plain)


def test_a_full_disk_costs_the_keeping_and_not_the_answer(tmp_path, monkeypatch):
    def full(self, file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CacheFiles, "_write", full)
    proxy, cache = versioned_proxy(), PassageCache(folder=tmp_path)
    prompts = make_prompts(proxy)
    for _ in range(2):
        assert_close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
    assert cache.stats().unwritten == 4
    assert not list(tmp_path.rglob("*.safetensors"))


TRANSIENT = ("EMFILE", "ENFILE", "EIO", "ENOSPC", "EACCES", "ESTALE", "EINTR", "ENOMEM")


@pytest.mark.parametrize("code", TRANSIENT)
def test_an_entry_that_cannot_be_read_just_now_is_read_anew_and_never_deleted(
    code, tmp_path, monkeypatch
):
    proxy, plain = fill_folder(tmp_path)
    before = {file: file.read_bytes() for file in entry_files(tmp_path)}

    def failing(file):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    cache = PassageCache(folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_read_bytes", failing)
        patch.setattr(CacheFiles, "_write", lambda self, file, data: failing(file))
        assert_close(weights(CachedReader(proxy, cache), make_prompts(proxy)), plain)
        found = cache.verify(drop=True)
    assert [one.is_unreadable for one in found] == [True] * 4
    assert {file: file.read_bytes() for file in entry_files(tmp_path)} == before
    assert (cache.stats().dropped, cache.stats().unwritten) == (0, 4)
    assert cache.stats().unread >= 4
    later = PassageCache(folder=tmp_path)
    assert_close(weights(CachedReader(proxy, later), make_prompts(proxy)), plain)
    assert (later.stats().disk_hits, later.stats().unread) == (4, 0)


def test_a_process_without_free_descriptors_deletes_no_entry(tmp_path):
    resource = pytest.importorskip("resource")
    fill_folder(tmp_path)
    files = entry_files(tmp_path)
    cache, (soft, hard) = PassageCache(folder=tmp_path), resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        found = [cache.get(file.stem, 1) for file in files]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [None] * len(files)
    assert entry_files(tmp_path) == files
    assert (cache.stats().dropped, cache.stats().unread) == (0, len(files))
    assert all(cache.get(file.stem, 1) for file in files)


def count_walks(monkeypatch) -> list[None]:
    walks: list[None] = []
    files = CacheFiles.files
    monkeypatch.setattr(CacheFiles, "files", lambda self: walks.append(None) or files(self))
    return walks


def store_many(entries: CacheFiles, count: int) -> int:
    """Stores so many entries of some 1 kB; how many were written."""
    part = torch.zeros(2, 4, 16)
    layers = [KVLayer(part, part)]
    return sum(entries.store(f"{i:064x}", layers, {"model": "m"}) for i in range(count))


def test_making_room_leaves_a_tenth_free_and_deletes_no_more(tmp_path):
    store_many(CacheFiles(tmp_path, 1 << 30), 40)
    limit = CacheFiles(tmp_path, 1).size()[1]
    entries = CacheFiles(tmp_path, limit)
    assert store_many(entries, 41) == 41
    assert entries.size() == (36, limit * 9 // 10)


def test_while_writes_fail_the_folder_is_not_walked_at_each(tmp_path, monkeypatch):
    def full(self, file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    walks = count_walks(monkeypatch)
    monkeypatch.setattr(CacheFiles, "_write", full)
    assert store_many(CacheFiles(tmp_path, 1 << 30), 200) == 0
    assert len(walks) <= 4


def test_a_full_folder_of_which_nothing_can_be_deleted_is_left_as_it_is(tmp_path, monkeypatch):
    store_many(CacheFiles(tmp_path, 1 << 30), 8)
    files, size = entry_files(tmp_path), CacheFiles(tmp_path, 1).size()[1]
    walks = count_walks(monkeypatch)
    monkeypatch.setattr(disk, "_delete", lambda file: False)
    for entry in files:  # others' entries, so that none is replaced
        entry.rename(entry.with_name(f"{'f' * 60}{files.index(entry):04x}.safetensors"))
    entries = CacheFiles(tmp_path, size)
    assert store_many(entries, 200) == 0
    assert entries.size()[1] == size
    assert len(walks) <= 10


def test_a_folder_that_cannot_be_listed_costs_the_keeping_and_not_the_answer(tmp_path, monkeypatch):
    walks: list[None] = []

    def failing(self):
        walks.append(None)
        raise OSError(errno.EMFILE, "Too many open files")

    proxy, cache = versioned_proxy(), PassageCache(folder=tmp_path)
    prompts = make_prompts(proxy)
    with monkeypatch.context() as patch:
        patch.setattr(CacheFiles, "files", failing)
        assert_close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
        assert store_many(cache.files, 100) == 0
    assert len(walks) <= 4
    assert cache.stats().unwritten == 4


CUT = """
import sys
from pathlib import Path
from tamis.probes.errors import BadModelFile
from tamis.probes.kv_cache.disk import CacheFiles
entries = CacheFiles(Path(sys.argv[1]), 1)
print("ready", flush=True)
for _ in range(200):
    try:
        entries.load(sys.argv[2])
    except BadModelFile:
        pass
"""


def test_a_file_that_is_cut_while_it_is_read_ends_no_process(tmp_path):
    """Reading a part that is gone through a memory map is a signal, not an error."""
    key, size = "c" * 64, 1 << 23
    file = CacheFiles(tmp_path, 1).path(key)
    file.parent.mkdir()
    file.write_bytes(bytes(size))
    words = [sys.executable, "-c", CUT, str(tmp_path), key]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as reading:
        assert reading.stdout.readline()
        while reading.poll() is None:
            os.truncate(file, 0)
            os.truncate(file, size)
    assert reading.returncode == 0


def test_clear_empties_memory_and_folder_and_leaves_what_is_not_its_own(tmp_path):
    fill_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "ab").mkdir(exist_ok=True)
    (tmp_path / "ab" / "weights.safetensors").write_bytes(b"mine too")
    cache = PassageCache(folder=tmp_path)
    cache.clear()
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [
        "notes.txt",
        "weights.safetensors",
    ]
    assert (cache.stats().files, cache.stats().entries) == (0, 0)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        PassageCache(folder=tmp_path / "file")


def test_threads_share_a_cache(tmp_path):
    proxy = versioned_proxy()
    prompts = [make_prompts(proxy, q) for q in ("Why?", "Who came?", "How did it end, in the end?")]
    plain = [weights(proxy, one) for one in prompts]
    cache = PassageCache(max_bytes=60_000, folder=tmp_path)
    failures = []

    def read(turn):
        try:
            for i in range(6):
                which = (turn + i) % len(prompts)
                assert_close(weights(CachedReader(proxy, cache), prompts[which]), plain[which])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert cache.verify() == []


KEYS = [f"{i:064x}" for i in range(8)]


def write_forever(folder: Path, size: int) -> None:
    entries = CacheFiles(folder, 1 << 30)
    for turn in range(10**9):
        part = torch.full((2, size, 16), float(turn % 8))
        entries.store(KEYS[turn % 8], [KVLayer(part, part)] * 2, {"model": "m"})


@contextmanager
def writers(folder: Path, count: int, size: int = 10_000) -> Iterator[list[int]]:
    """Processes that write the same entries until the block ends; then they are killed."""
    started = [
        multiprocessing.get_context("fork").Process(target=write_forever, args=(folder, size))
        for _ in range(count)
    ]
    for process in started:
        process.start()
    try:
        while not entry_files(folder):
            time.sleep(0.001)
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.join()


def count_kills_while_writing(folder: Path, kills: int, chance: random.Random) -> int:
    """Kills writers with SIGKILL at random moments; how many of them were in the middle of a file.

    After each, every file that is there is whole and holds what its key says.
    """
    torn = 0
    for _ in range(kills):
        with writers(folder, 1):
            time.sleep(chance.random() * 0.1)
        left = list(folder.rglob(TEMPORARY_GLOB))
        cache = CacheFiles(folder, 1 << 30)
        assert [fault for fault in cache.check_files() if fault] == []
        assert cache.files()
        for file in cache.files():
            held = cache.load(file.stem)
            assert (held[1].values == int(file.stem, 16)).all()
        torn += bool(left)
        cache.clear()
        assert not list(folder.rglob(TEMPORARY_GLOB))
    return torn


def test_a_process_killed_while_it_writes_leaves_no_half_entry(tmp_path):
    chance = random.Random(1)
    # one in three to six is hit in the middle of a file, depending on the machine
    assert any(count_kills_while_writing(tmp_path, 5, chance) for _ in range(20))


def test_two_processes_write_the_same_entries_while_others_read(tmp_path):
    read = 0
    with writers(tmp_path, 2, size=2000):
        cache = CacheFiles(tmp_path, 1 << 30)
        for turn in range(200):
            if held := cache.load(KEYS[turn % 8]):
                assert (held[0].keys == turn % 8).all()
                read += 1
    assert read > 0
