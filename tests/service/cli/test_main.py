"""The script `tamis`: how it starts, and how it ends when its streams fail."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from tamis.service.cli.app import build_app
from tests.service.cli.cli_kit import SCRIPT, process, tamis, word_tokenizer

HEAVY = ("torch", "transformers", "sklearn", "matplotlib", "fastapi")


@pytest.mark.parametrize("words", [["--help"], ["compress", "--help"], ["doctor", "--help"]])
def test_help_loads_no_heavy_library(words):
    code = f"""
import sys
from tamis.service.cli.main import run
sys.argv = ["tamis", *{words!r}]
try:
    run()
finally:
    print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Examples" in done.stdout


@pytest.mark.parametrize("command", ["compress", "methods"])
def test_what_needs_no_model_loads_no_model_library(command, tmp_path):
    (tmp_path / "in.txt").write_text("Ships came. The harbour was closed. Nobody knew.")
    words = {
        "compress": (
            *(tmp_path / "in.txt", "-q", "harbour?", "--max-tokens", 4, "--method", "lexical"),
            *("--tokenizer", word_tokenizer(tmp_path)),
        ),
        "methods": ("--json",),
    }[command]
    code = f"""
import sys
from tamis.service.cli.main import run
sys.argv = ["tamis", {command!r}, *{list(map(str, words))!r}]
try:
    run()
finally:
    commands = [name for name in sys.modules if name.startswith("tamis.service.cli.commands.")]
    print(commands, sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"['tamis.service.cli.commands.{command}'] []"
    assert {"compress": "The harbour was closed.", "methods": "question_rows"}[
        command
    ] in done.stdout


def test_the_version_is_that_of_the_package():
    done = tamis("--version")
    assert (done.exit_code, done.stdout) == (0, f"tamis {version('tamis')}\n")


def test_every_command_is_there():
    shown = tamis("--help").stdout
    for command in ("compress", "methods", "doctor", "models", "index", "batch"):
        assert f" {command} " in shown


def test_invalid_utf_8_is_exit_code_2_with_file_and_offset_and_no_traceback(tmp_path):
    (tmp_path / "old.txt").write_bytes(b"caf\xe9")
    done = process("compress", tmp_path / "old.txt", "-q", "Q")
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"old.txt is not utf-8: byte 0xe9 at offset 3" in done.stderr
    assert b"Traceback" not in done.stderr


def test_text_is_piped_in_and_out_byte_by_byte(tmp_path):
    words = word_tokenizer(tmp_path)
    text = "Déjà vu.\r\n\r\nA  second\tline. \u2028 漢字".encode()
    free = ("--method", "lexical", "--tokenizer", words, "--quiet")
    done = process(
        "compress", "-q", "Q", *free, input=text, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == text + b"\n"


def test_a_closed_pipe_ends_quietly(tmp_path):
    """Short output stays in a buffer: unless it is flushed in time, the interpreter complains."""
    (tmp_path / "a.txt").write_text("A sentence of some length stands here.")
    free = ("--method", "lexical", "--tokenizer", word_tokenizer(tmp_path), "--quiet")
    run = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            *map(str, ("compress", tmp_path / "a.txt", "-q", "Q", *free)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    run.stdout.close()
    assert run.stderr.read() == b""
    assert run.wait(timeout=600) == 1
    run.stderr.close()


def shell(redirected, *words):
    """One run by a shell that redirects its streams."""
    line = shlex.join([sys.executable, "-c", SCRIPT, *map(str, words)])
    return subprocess.run(
        ["sh", "-c", f"{line} {redirected}"], capture_output=True, check=False, timeout=600
    )


@pytest.mark.parametrize("command", ["compress", "rerank"])
def test_a_closed_standard_input_is_nothing_to_whoever_named_a_file(tmp_path, command):
    (tmp_path / "a.txt").write_text("Keys turn.")
    words = ("--method", "lexical", "--quiet")
    counted = ("--tokenizer", word_tokenizer(tmp_path)) if command == "compress" else ()
    done = shell("<&-", command, tmp_path / "a.txt", "-q", "keys", *words, *counted)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Keys turn." in done.stdout


@pytest.mark.parametrize(
    ("redirected", "why"), [(">&-", b"it is closed"), (">/dev/full", b"No space left")]
)
@pytest.mark.parametrize(
    "words",
    [
        ("compress", "{file}", "-q", "keys", "--tokenizer", "{words}", "--method", "lexical"),
        ("compress", "{file}", "-q", "k", "--tokenizer", "{words}", "--method=lexical", "--json"),
        ("rerank", "{file}", "-q", "keys", "--method", "lexical"),
        ("--version",),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(
    tmp_path, redirected, why, words
):
    (tmp_path / "a.txt").write_text("Keys turn.")
    names = {"file": tmp_path / "a.txt", "words": word_tokenizer(tmp_path)}
    done = shell(redirected, *(word.format(**names) for word in words))
    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_output_is_nothing_to_whoever_writes_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("Keys turn.")
    free = ("--method", "lexical", "--tokenizer", word_tokenizer(tmp_path), "--quiet")
    out = tmp_path / "out.txt"
    done = shell(">&-", "compress", tmp_path / "a.txt", "-q", "keys", *free, "--out", out)
    assert (done.returncode, done.stderr, out.read_text()) == (0, b"", "Keys turn.\n")


@pytest.mark.parametrize("command", ["compress", "rerank", "batch run", "index build"])
def test_no_name_of_a_file_controls_the_terminal(tmp_path, command):
    """It could set the title, clear the screen, or hide what is printed."""
    title = "\x1b]0;owned\x07\x1b[2J"
    for name, held in (("torn.json", "{"), ("bad.pdf", "%PDF-x"), ("rows.jsonl", "7\n7{")):
        (tmp_path / f"{title}{name}").write_text(held)
    (tmp_path / "keys.txt").write_text("Keys are rotated. " * 9)
    (tmp_path / f"{title}data.bin").write_bytes(b"\0")
    more = ["-q", "keys?", "--method", "lexical"] if command in ("compress", "rerank") else []
    for path in [tmp_path, *tmp_path.iterdir(), tmp_path / f"{title}none"]:
        words = [*command.split(), str(path), *more, "--out", str(tmp_path / "out")]
        words = words[:-2] if command == "rerank" else words
        found = CliRunner().invoke(build_app(), words, color=True)
        assert found.exit_code in (0, 1, 2), found.output  # 1: an index passed files over
        assert "\x1b]" not in found.output
        assert "\x1b[2J" not in found.output
