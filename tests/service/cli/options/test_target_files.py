"""Files that commands write: whole or not at all, and in place where nothing can be replaced."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from tamis.probes.atomic_file import write_whole
from tests.service.cli.cli_kit import process, tamis, word_tokenizer

TEXT = "The key is rotated every ninety days."
DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links and permissions of POSIX")


@pytest.fixture
def compress(tmp_path):
    """A call of `tamis compress` that needs no model and keeps the whole of `TEXT`."""
    text = tmp_path / "in.txt"
    text.write_text(TEXT)
    words = ("--method", "lexical", "--tokenizer", word_tokenizer(tmp_path), "--quiet")
    return ("compress", text, "-q", "Which key?", "--ratio", 1, *words)


def fail_halfway(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Every write of a file stops after half of its bytes."""
    write_bytes = Path.write_bytes

    def write_half(path: Path, data: bytes) -> int:
        write_bytes(path, data[: len(data) // 2])
        raise error

    monkeypatch.setattr(Path, "write_bytes", write_half)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DISK_FULL])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    file = tmp_path / "out.json"
    file.write_text("old")
    fail_halfway(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        write_whole(file, b"new content")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]
    assert ".tmp" not in str(caught.value)


def test_a_command_on_a_full_disk_leaves_its_old_output(tmp_path, monkeypatch, compress):
    file = tmp_path / "out.txt"
    file.write_text("old")
    fail_halfway(monkeypatch, DISK_FULL)
    done = tamis(*compress, "--out", file)
    assert done.exit_code == 2
    assert f"out.txt cannot be written ({DISK_FULL.strerror})" in done.stderr.replace("\n", "")
    assert file.read_text() == "old"


@posix
def test_a_replaced_file_keeps_its_permissions_and_a_link_its_target(tmp_path):
    file, link = tmp_path / "secret.txt", tmp_path / "link.txt"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@posix
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"through")
    reader.join(10)
    assert received == [b"through"]
    assert pipe.is_fifo()


@posix
def test_standard_output_by_its_name_is_written_to_as_a_pipe_and_as_a_file(tmp_path, compress):
    assert process(*compress, "--out", "/dev/stdout").stdout == f"{TEXT}\n".encode()
    file = tmp_path / "redirected.txt"
    with file.open("wb") as opened:
        write_whole(Path(f"/dev/fd/{opened.fileno()}"), b"in place")
        assert os.fstat(opened.fileno()).st_ino == file.stat().st_ino
    assert file.read_bytes() == b"in place"
