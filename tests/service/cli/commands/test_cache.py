"""`tamis cache`, and `tamis compress --cache`: filled by one question, used by the next."""

from __future__ import annotations

import json

import pytest

from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.service.cli.cli_kit import tamis

TEXT = "Ships came in spring. The old harbour of Malo was closed in 1907. Nobody knew why."


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text("Bread was cheap then. A loaf cost two pennies.")
    return tmp_path / "a.txt", tmp_path / "b.txt"


@pytest.fixture
def proxy(tmp_path):
    return tiny.save("llama", tmp_path / "llama")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


def compress(docs, proxy, folder, question="When was it closed?"):
    done = tamis(
        *("compress", *docs, "-q", question, "--ratio", 0.5, "--proxy", proxy, "--json"),
        *(("--cache", folder) if folder else ()),
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_second_question_reads_the_question_alone_and_answers_alike(docs, proxy, folder):
    plain = compress(docs, proxy, None)
    cold = compress(docs, proxy, folder)
    warm = compress(docs, proxy, folder)
    for seen in (cold, warm):
        assert seen["text"] == plain["text"]
        for one, other in zip(seen["results"], plain["results"], strict=True):
            # bf16 where the processor has it: what runs together differs, and its rounding
            assert one["evidence_score"] == pytest.approx(other["evidence_score"], abs=1e-3)
    assert cold["counts"]["tokens_scored"] == plain["counts"]["tokens_scored"]
    cached = warm["usage"]["cached_tokens"]
    assert cached > 0
    assert cold["usage"]["cached_tokens"] == plain["usage"]["cached_tokens"] == 0
    assert warm["counts"]["tokens_scored"] + cached == plain["counts"]["tokens_scored"]


def test_stats_say_what_is_kept_and_of_which_model(docs, proxy, folder):
    compress(docs, proxy, folder)
    done = tamis("cache", "stats", "--folder", folder)
    assert done.exit_code == 0
    assert f"{folder}: 2 passages" in done.stdout
    assert "llama" in done.stdout
    found = json.loads(tamis("cache", "stats", "--folder", folder, "--json").stdout)
    sizes = [file.stat().st_size for file in folder.rglob("*.safetensors")]
    assert (found["entries"], found["bytes"]) == (2, sum(sizes))
    assert list(found["models"].values()) == [2]


def test_verify_names_damaged_files_removes_them_on_request_and_exits_with_1(docs, proxy, folder):
    compress(docs, proxy, folder)
    assert tamis("cache", "verify", "--folder", folder).exit_code == 0
    file = next(folder.rglob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = tamis("cache", "verify", "--folder", folder)
    assert done.exit_code == 1
    assert f"{file}: it is damaged" in done.stdout
    assert "2 passages, 1 damaged" in done.stdout
    found = json.loads(tamis("cache", "verify", "--folder", folder, "--remove", "--json").stdout)
    assert [fault["file"] for fault in found["damaged"]] == [str(file)]
    assert not file.exists()
    assert tamis("cache", "verify", "--folder", folder).exit_code == 0


def test_clear_asks_first_and_frees_everything(docs, proxy, folder):
    compress(docs, proxy, folder)
    assert tamis("cache", "clear", "--folder", folder, stdin="n\n").exit_code == 1
    assert len(list(folder.rglob("*.safetensors"))) == 2
    done = tamis("cache", "clear", "--folder", folder, "--yes")
    assert done.exit_code == 0
    assert "2 passages deleted" in done.stdout
    assert not list(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("command", ["stats", "verify", "clear"])
def test_a_folder_that_is_not_there_is_refused_and_not_made(command, folder):
    done = tamis("cache", command, "--folder", folder)
    assert done.exit_code == 2
    assert f"there is no folder {folder}" in done.stderr
    assert not folder.exists()


def test_the_default_folder_is_in_tamis_home_and_may_be_missing(tmp_path):
    done = tamis("cache", "stats", "--home", tmp_path / "home")
    assert done.exit_code == 0
    assert f"{tmp_path / 'home' / 'passages'}: 0 passages" in done.stdout
    assert not (tmp_path / "home").exists()


def test_a_cache_that_cannot_be_written_is_exit_code_2_before_anything_is_read(docs, proxy):
    done = tamis("compress", *docs, "-q", "Why?", "--proxy", proxy, "--cache", docs[0])
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_what_could_not_be_deleted_is_not_reported_as_deleted(docs, proxy, folder, monkeypatch):
    compress(docs, proxy, folder)
    file = next(folder.rglob("*.safetensors"))
    file.write_bytes(b"damaged")

    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    done = tamis("cache", "verify", "--folder", folder, "--remove")
    assert f"{file}: " in done.stdout
    assert "; not removed" in done.stdout
    found = json.loads(tamis("cache", "verify", "--folder", folder, "--remove", "--json").stdout)
    assert found["removed"] == 0
    done = tamis("cache", "clear", "--folder", folder, "--yes")
    assert done.exit_code == 1
    assert "0 passages deleted, 0 bytes freed" in done.stdout
    assert "2 passages could not be deleted" in done.stderr
