"""`tamis pipe` as a process: shorter where it can be, and never less than nothing."""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios

import pytest

from tamis.service.agents.shortening import MAX_BYTES
from tests.service.agents.recorded import ERROR, LOG, SUMMARY
from tests.service.cli.cli_kit import SCRIPT, process
from tests.service.http.app_kit import served, wait_until

HEAVY = ("torch", "transformers", "sklearn", "numpy", "pydantic", "typer", "httpx", "asyncio")


def test_errors_and_the_summary_of_a_log_are_kept_and_omissions_marked():
    done = process("pipe", "--ratio", 0.2, "--command", "pytest", input=LOG.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert {ERROR, SUMMARY} <= set(lines)
    assert any("omitted" in line for line in lines)
    assert len(done.stdout) < len(LOG) * 0.3


def test_a_question_finds_its_line():
    lines = [f"valve {i} of the red tank is shut" for i in range(300)]
    lines[123] = "the copper kettle is whistling"
    text = "\n".join(lines).encode()
    done = process("pipe", "-q", "what does the kettle do?", "--max-tokens", 100, input=text)
    assert lines[123].encode() in done.stdout


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"few words\r\n", b"\xff\xfe\x00caf\xe9\n" * 2, bytes(range(256))]
)
def test_small_inputs_come_out_byte_by_byte(data):
    done = process("pipe", "-q", "why?", input=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 99,
        b"".join(b"./src/file-%d.py\0" % i for i in range(900)),
        "\n".join(f"line {i} is fine" for i in range(900)).encode("utf-16"),
    ],
    ids=["binary", "find -print0", "utf-16"],
)
def test_bytes_that_are_no_text_come_out_as_they_are(data):
    done = process("pipe", "--ratio", 0.2, input=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_bytes_that_are_no_utf_8_survive_in_the_lines_that_are_kept():
    line = b"E   caf\xe9: \xff\xfe is not utf-8\n"
    data = b"".join(b"step %d PASSED\n" % i for i in range(500)) + line
    done = process("pipe", "--ratio", 0.2, input=data)
    assert line in done.stdout
    assert len(done.stdout) < len(data) / 2


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--method", "none"), 2, b"there is no method"),
        (("--ratio", 2), 2, b"ratio"),
        (("--url", "http://127.0.0.1:9"), 0, b"refused"),
        (("--tokenizer", "/nowhere.json"), 2, b"there is no tokenizer"),
    ],
    ids=str,
)
def test_on_any_error_the_input_comes_out_with_one_line_that_says_why(words, code, why):
    done = process("pipe", *words, input=LOG.encode())
    assert (done.returncode, done.stdout) == (code, LOG.encode())
    assert why in done.stderr.lower()
    assert done.stderr.count(b"\n") == 1


def test_an_input_over_the_limit_passes_through():
    data = b"0123456789abcde\n" * (MAX_BYTES // 16 + 1000)
    done = process("pipe", input=data)
    assert done.stdout == data
    assert b"more than" in done.stderr


def test_an_unknown_option_is_an_error_as_of_every_other_command():
    done = process("pipe", "--ratoi", 2, input=b"")
    assert done.returncode == 2
    assert b"--ratio" in done.stderr


@pytest.mark.parametrize("words", [("--ratoi", 2), ("--max-tokens", "few"), ("why?",)], ids=str)
def test_a_mistyped_command_line_does_not_lose_the_input(words):
    done = process("pipe", *words, input=b"1 failed\n\xff")
    assert (done.returncode, done.stdout) == (2, b"1 failed\n\xff")
    assert done.stderr


def start_pipe(*words):
    """`tamis pipe` that an interrupt reaches, even if a shell runs the tests in the background.

    What a shell starts there ignores interrupts, and so do the processes that it starts.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, "pipe", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def unread_bytes(pipe):
    """How many bytes in a pipe its reader has not read."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_after_an_interrupt_what_was_printed_until_then_is_written():
    """Ctrl-C goes to the whole pipeline; the producer ends, and its output is still wanted."""
    run = start_pipe()
    run.stdin.write(b"half of ")
    run.stdin.flush()
    wait_until(lambda: unread_bytes(run.stdin) == 0)  # it has started, and waits for more
    run.send_signal(signal.SIGINT)
    run.stdin.write(b"the output\n")
    run.stdin.close()
    assert run.stdout.read() == b"half of the output\n"
    assert run.wait() == 0
    run.stdout.close()
    run.stderr.close()


def test_an_interrupt_while_it_is_shortened_does_not_lose_the_input():
    with socket.create_server(("127.0.0.1", 0)) as busy:  # a service that does not get to it
        url = f"http://127.0.0.1:{busy.getsockname()[1]}"
        run = start_pipe("--min-tokens", "1", "--url", url)
        run.stdin.write(LOG.encode())
        run.stdin.close()
        connection, _ = busy.accept()
        with connection:
            assert connection.recv(1)  # it waits for the answer
            run.send_signal(signal.SIGINT)
            assert run.stdout.read() == LOG.encode()
            assert b"interrupted" in run.stderr.read()
            assert run.wait() == 130
    run.stdout.close()
    run.stderr.close()


def test_neither_typer_nor_a_model_library_is_loaded():
    code = f"""
import sys
from tamis.service.cli.main import run
sys.argv = ["tamis", "pipe", "-q", "why?", "--ratio", "0.2"]
try:
    run()
finally:
    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=LOG, capture_output=True, text=True, timeout=600
    )
    assert done.stderr == "[]\n"
    assert ERROR in done.stdout


def test_few_modules_are_loaded_so_that_it_starts_at_once():
    """A count, which no busy machine changes, unlike a time: 230; typer alone brings 70 more."""
    code = f"""
import atexit, sys
atexit.register(lambda: print(len(sys.modules), file=sys.stderr))
sys.argv = ["tamis", "pipe", "--ratio", "0.2"]
{SCRIPT}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=LOG, capture_output=True, text=True, timeout=600
    )
    assert int(done.stderr) < 260


@pytest.mark.slow
def test_a_service_shortens_with_its_own_method():
    with served() as running:
        done = process(
            *("pipe", "-q", "why?", "--url", running.url, "--ratio", 0.3),
            input=LOG.encode(),
            env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert 0 < len(done.stdout) < len(LOG) * 0.6


def test_the_key_comes_from_the_environment():
    with served(api_keys=("ada:0123456789abcdef",)) as running:
        words = ("pipe", "-q", "why?", "--url", running.url, "--ratio", 0.3)
        refused = process(*words, input=LOG.encode())
        assert refused.stdout == LOG.encode()
        assert b"answered 401" in refused.stderr
        env = {**os.environ, "TAMIS_API_KEY": "0123456789abcdef"}
        assert len(process(*words, input=LOG.encode(), env=env).stdout) < len(LOG)


def test_help_says_what_becomes_of_the_exit_status():
    shown = process("pipe", "--help", env={**os.environ, "COLUMNS": "200"}).stdout.decode()
    assert "set -o pipefail" in shown
    assert json.dumps("why does it fail?") in shown


@pytest.mark.parametrize("limit", [5, 20])
def test_a_long_array_never_becomes_an_empty_one(limit):
    """`[]` would say that nothing was found."""
    for data in (json.dumps([{"id": i} for i in range(900)]), json.dumps({"ids": [*range(900)]})):
        done = process("pipe", "--max-tokens", limit, input=data.encode())
        assert done.stdout not in (b"[]", b"{}", b"")


def test_one_line_that_does_not_fit_stays_whole():
    """A marker alone would leave nothing of it."""
    data = b"word " * 9000
    assert process("pipe", "--ratio", 0.3, input=data).stdout == data


def test_warnings_are_lines_on_standard_error():
    data = b"".join(b"step %d of the long way is done\n" % i for i in range(400))
    done = process("pipe", "--max-tokens", 3, input=data)
    assert done.returncode == 0
    assert b"3 tokens" in done.stderr
    assert done.stderr.startswith(b"tamis: ")
    assert done.stderr.count(b"\n") == 1


def test_an_array_of_one_long_text_stays_whole_where_only_a_marker_would_be_left():
    data = json.dumps(["word " * 2000]).encode()
    done = process("pipe", "--max-tokens", 100, input=data)
    assert (done.returncode, done.stdout) == (0, data)
