"""`tamis run` with real commands: their exit code, their order, their signals, and nothing lost."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.tests.commands.test_pipe import HEAVY
from tamis.compressors.tools.types import MOST_TOKENS
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.shortening import ID_TOKENS, MAX_BYTES
from tamis_agents.commands.run import LIVE_AFTER_S
from tests.service.agents.recorded import ERROR, LOG, SUMMARY
from tests.service.cli.cli_kit import SCRIPT, process
from tests.service.http.app_kit import wait_until

ID = re.compile(r"tamis run --retrieve ([0-9a-f]{24})\]")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Outputs are kept in a folder of the test's own."""
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "home"))
    (tmp_path / "log.txt").write_text(LOG)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def start(*words, **arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "run", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **arguments,
    )


def test_what_is_shortened_can_be_had_again_by_the_id_of_its_marker(home):
    done = process("run", "--ratio", 0.2, "--", "cat", "log.txt")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert {ERROR, SUMMARY} <= set(text.splitlines())
    assert len(text) < len(LOG) * 0.3
    (key,) = ID.findall(text)
    assert process("run", "--retrieve", key).stdout == LOG.encode()
    some = process("run", "--retrieve", key, "--lines", "151-152").stdout.decode()
    assert some == "".join(line + "\n" for line in LOG.splitlines()[150:152])
    (file,) = (home / "outputs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_id_fits_into_the_budget(home):
    done = process("run", "--max-tokens", 300, "--", "cat", "log.txt")
    counted = process("run", "--no-store", "--max-tokens", 300, "--", "cat", "log.txt")
    assert ID.search(done.stdout.decode())
    assert not ID.search(counted.stdout.decode())
    assert estimating_tokenizer().count(done.stdout.decode()) <= 300


def test_of_a_small_output_what_is_left_out_can_be_had_again_too(home):
    line = "print('\\n'.join(f'step {i} of the build is done' for i in range(10)))"
    words = ("run", "--min-tokens", "10", "--ratio", "0.5", "--", sys.executable, "-c", line)
    small = process(*words).stdout.decode()
    (key,) = ID.findall(small)
    whole = process("run", "--retrieve", key).stdout.decode().splitlines()
    assert whole == [f"step {i} of the build is done" for i in range(10)]


def test_what_was_given_back_is_not_shortened_again():
    text = process("run", "--ratio", 0.2, "--", "cat", "log.txt").stdout.decode()
    (key,) = ID.findall(text)
    words = [sys.executable, "-c", SCRIPT, "run", "--retrieve", key]
    event = {
        "hook_event_name": "PostToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": f"tamis run --retrieve {key}"},
        "tool_response": {"stdout": subprocess.check_output(words).decode(), "stderr": ""},
    }
    hook = process("hook", "claude-code", "--ratio", 0.2, input=json.dumps(event).encode())
    assert (hook.returncode, hook.stdout, hook.stderr) == (0, b"", b"")
    event["tool_input"]["command"] = "cat log.txt"
    event["tool_response"]["stdout"] = text  # shortened by `tamis run` before
    hook = process("hook", "claude-code", "--ratio", 0.2, input=json.dumps(event).encode())
    assert hook.stdout == b""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("bash", "-c", "exit 7"), 7),
        (("bash", "-c", "kill -TERM $$"), 143),
        (("bash", "-c", "kill -KILL $$"), 137),
        (("no-such-command-here",), 127),
        (("/etc/passwd",), 126),
    ],
    ids=str,
)
def test_it_ends_as_the_command_ends(words, code):
    done = process("run", "--", *words)
    assert done.returncode == code
    assert done.stdout == b""


def test_both_streams_stand_in_the_order_in_which_they_were_written():
    script = "for i in $(seq 20); do echo out $i; echo err $i >&2; done"
    with start("--", "bash", "-c", script) as run:
        wanted = "".join(f"out {i}\nerr {i}\n" for i in range(1, 21))
        assert run.stdout.read().decode() == wanted


def test_streams_that_go_to_different_places_stay_apart():
    script = "cat log.txt; echo warned >&2; echo done"
    done = process("run", "--ratio", 0.2, "--", "bash", "-c", script)
    assert done.stderr == b"warned\n"
    assert done.stdout.endswith(b"done\n")
    done = process("run", "--streams", "together", "--ratio", 0.5, "--", "bash", "-c", script)
    assert done.stderr == b""
    assert b"warned" in done.stdout
    done = process("run", "--json", "--ratio", 0.2, "--", "bash", "-c", script)
    shown = json.loads(done.stdout)
    assert list(shown) == ["stdout", "stderr", "interrupted"]
    assert (shown["stderr"], shown["interrupted"]) == ("warned\n", False)
    assert ERROR in shown["stdout"]


def test_standard_input_goes_to_the_command():
    done = process("run", "--", "tr", "a-z", "A-Z", input=b"through\n")
    assert done.stdout == b"THROUGH\n"


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"few words\r\n", b"\xff\xfe\x00caf\xe9\n" * 900, bytes(range(256)) * 99]
)
def test_small_outputs_and_bytes_that_are_no_text_come_out_byte_by_byte(tmp_path, data):
    (tmp_path / "data").write_bytes(data)
    done = process("run", "--ratio", 0.2, "--", "cat", "data")
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


@pytest.mark.parametrize(
    "line",
    [
        "cat log.txt | grep PASSED",
        "cat log.txt 2>&1 | head -200",
        "sed -n 1,250p log.txt",
        "tail -200 log.txt",
        "awk '{print $1}' log.txt",
        "cat log.txt | sort | uniq",
    ],
)
def test_what_has_been_chosen_already_stays(line):
    wanted = subprocess.check_output(["bash", "-c", line])
    for shell in ("bash", "/bin/sh"):
        assert process("run", "--ratio", 0.1, "--", shell, "-c", line).stdout == wanted


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--method", "none"), 5, b"there is no method"),
        (("--url", "http://127.0.0.1:9"), 5, b"refused"),
        (("--ratio", "2"), 2, b"ratio"),
        (("--lossless", "--ratio", ".5"), 2, b"budget"),
    ],
    ids=str,
)
def test_on_any_error_the_output_is_whole_or_the_command_was_not_run(words, code, why):
    done = process("run", *words, "--", "bash", "-c", "cat log.txt; touch ran; exit 5")
    assert (done.returncode, why in done.stderr.lower()) == (code, True)
    assert os.path.exists("ran") == (code == 5)
    assert done.stdout == (LOG.encode() if code == 5 else b"")


def test_a_folder_that_cannot_be_written_costs_the_id_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "log.txt" / "below-a-file"))
    done = process("run", "--ratio", 0.2, "--", "cat", "log.txt")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"omitted" in done.stdout
    assert b"--retrieve" not in done.stdout


def peak_of(*words):
    """What it printed, its errors, and the most memory that its process ever had, in MB."""
    with (
        open("errors", "wb+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *map(str, words)], stdout=subprocess.PIPE, stderr=errors
        ) as run,
    ):
        size, ends, peak, chunk = 0, b"", 0, b"more"
        while chunk:
            status = Path(f"/proc/{run.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+)", status):  # which one that has ended lacks
                peak = max(peak, int(found[1]) // 1024)
            if select.select([run.stdout], [], [], 0.02)[0]:
                chunk = os.read(run.stdout.fileno(), 1 << 20)
                size, ends = (
                    size + len(chunk),
                    (ends[:12] or chunk[:12]) + (ends[12:] + chunk)[-40:],
                )
        run.wait()
        errors.seek(0)
        return size, ends, errors.read(), peak


LONG = 200_000_000
WRITES = "yes 0123456789abcde | head -c %d"


@pytest.mark.parametrize("form", ["--streams=apart", "--json", "pipe"])
def test_of_a_long_output_little_is_held_and_it_says_that_it_passes_through(tmp_path, form):
    # in a file, for a line with `| head` has been chosen from already
    (tmp_path / "long.sh").write_text(f"{WRITES % LONG} >&2; {WRITES % LONG}")
    script = f"{sys.executable} -c '{SCRIPT}'"
    if form == "pipe":
        words = ["bash", "-c", f"{WRITES % LONG} | exec {script} pipe"]
        done = subprocess.run(words, capture_output=True, check=False)
        assert (len(done.stdout), done.stderr.count(b"\n")) == (LONG, 1)
        assert b"more than 8,388,608 bytes" in done.stderr
        return
    size, ends, errors, peak = peak_of("run", form, "--", "bash", "long.sh")
    assert 0 < peak <= 300
    assert b"more than 8,388,608 bytes; the output is passed on as it comes\n" in errors
    if form == "--json":
        assert size > 2 * LONG * 17 / 16  # a line end takes two bytes
        assert ends.startswith(b'{"stdout": "')
        assert ends.endswith(b'cde\\n", "interrupted": false}\n')
    else:
        assert (size, len(errors) > LONG) == (LONG, True)


def test_an_object_of_a_long_output_is_whole_and_valid(tmp_path):
    line = "for i in 1 2 3; do head -c 5000000 data; head -c 1000001 data >&2; done; :"
    (tmp_path / "data").write_bytes('é"\\\x01 \n'.encode() * 999_999)
    done = process("run", "--json", "--", "bash", "-c", line)
    data = (tmp_path / "data").read_bytes()
    shown = json.loads(done.stdout)
    assert list(shown) == ["stdout", "stderr", "interrupted"]
    for name, size in (("stdout", 5_000_000), ("stderr", 1_000_001)):
        assert shown[name] == (data[:size] * 3).decode("utf-8", "replace")


@pytest.mark.parametrize("unit", ["a\n", "alpha beta gamma of the delta and is\n", "x 😀 "])
def test_what_would_take_too_much_memory_to_shorten_is_printed_as_it_is(tmp_path, unit):
    data = (unit * (MAX_BYTES // len(unit.encode()))).encode()
    (tmp_path / "data").write_bytes(data)
    size, _, errors, peak = peak_of("run", "--", "cat", "data")
    assert 0 < peak <= 300
    assert size < len(data) / 2 or b"shortening takes more than" in errors


def test_of_a_long_output_two_thousand_tokens_are_kept_unless_a_budget_says_otherwise(tmp_path):
    lines = [f"10.0.0.{i % 99} GET /api/items/{i * 7919} 200 {i}ms" for i in range(4000)]
    (tmp_path / "data").write_text("\n".join(lines))
    count, command = estimating_tokenizer().count, ("--", "cat", "data")
    whole = count((tmp_path / "data").read_text())
    assert whole > 40_000
    for words, least, most in (
        ((), 1000, MOST_TOKENS),
        (("--ratio", ".2"), 0.15 * whole, 0.2 * whole),
        (("--max-tokens", "5000"), 4000, 5000),
        (("--max-tokens", "5000", "--ratio", ".5"), 4000, 5000),
        (("--max-tokens", "5000", "--ratio", ".05"), 1500, 0.05 * whole),
    ):
        shown = process("run", *words, *command).stdout.decode()
        assert least < count(shown) <= most + ID_TOKENS


def test_after_a_time_the_output_comes_in_parts_that_are_shortened_each():
    script = "cat log.txt; sleep 1; echo late; sleep 2; cat log.txt; sleep 30"
    with start("--live-after", 0.8, "--", "bash", "-c", script) as run:
        shown = b""
        while shown.count(ERROR.encode()) < 2:
            shown += run.stdout.readline()
        text = shown.decode()
        assert text.startswith("tamis: it is not done after 0.8 seconds; its output comes in parts")
        assert text.count("in parts") == 1
        assert "late\n" in text
        assert len(text) < 1.5 * len(LOG)
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 143
        run.stdout.close()


@pytest.mark.parametrize("moment", [0, 0.02, 0.1, 0.5])
def test_a_command_that_never_pauses_is_shown_in_parts_too(moment):
    """Whatever it is at when the end is asked for."""
    with start("--live-after", 0.5, "--", "bash", "-c", "while :; do echo more; done") as run:
        assert b"comes in parts" in run.stdout.readline()
        run.stdout.readline()
        time.sleep(moment)
        run.send_signal(signal.SIGTERM)
        assert b"more" in run.stdout.read()
        assert run.wait(20) == 143


def test_a_server_is_not_waited_for():
    words = (sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1")
    begun = time.monotonic()
    with start("--", *words) as run:
        assert b"Serving HTTP" in run.stdout.readline()
        assert time.monotonic() - begun < LIVE_AFTER_S / 2
        run.send_signal(signal.SIGINT)
        run.wait(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_go_to_all_that_the_command_started(tmp_path, number):
    child = (
        "import pathlib, signal, sys, time\n"
        "def end(number, frame):\n"
        "    print('cleaned up', number, flush=True)\n"
        "    sys.exit(9)\n"
        f"signal.signal({number.value}, end)\n"
        "pathlib.Path('started').touch()\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "child.py").write_text(child)
    # the shell takes the signal, too, and ends as the program that it waits for
    line = f"trap : INT TERM HUP; {sys.executable} child.py; exit $?"
    with start("--", "bash", "-c", line) as run:
        wait_until((tmp_path / "started").exists)
        run.send_signal(number)
        assert run.stdout.read() == f"cleaned up {number.value}\n".encode()
        assert run.wait(10) == 9


def test_who_kills_it_kills_the_command(tmp_path):
    with start("--", "bash", "-c", "sleep 300 & echo $! > pid; wait") as run:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        sleeper = int((tmp_path / "pid").read_text())
        run.kill()
        wait_until(lambda: not is_alive(sleeper))


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_what_stays_in_the_background_is_not_waited_for_and_goes_on_printing():
    script = "(sleep 2; echo late) & echo early"
    with start("--", "bash", "-c", script) as run:
        begun = time.monotonic()
        assert run.wait(20) == 0
        assert time.monotonic() - begun < 1.9
        assert run.stdout.read() == b"early\nlate\n"


def in_terminal(*words):
    """What `tamis run` shows in a terminal of its own."""
    parent, child = pty.openpty()
    words = [sys.executable, "-c", SCRIPT, "run", *words]
    run = subprocess.Popen(words, stdin=child, stdout=child, stderr=child, start_new_session=True)
    os.close(child)
    shown = b""
    while True:
        try:
            data = os.read(parent, 1 << 16)
        except OSError:  # the terminal's other end is closed
            break
        if not data:
            break
        shown += data
    os.close(parent)
    assert run.wait(10) == 0
    return shown.replace(b"\r\n", b"\n").decode()


def test_in_a_terminal_nothing_changes_unless_a_budget_asks_for_it():
    """The command has the terminal itself; agents that give one to their shell give a budget."""
    line = "test -t 1 && cat log.txt"
    assert in_terminal("--", "bash", "-c", line) == LOG
    shown = in_terminal("--ratio", "0.2", "--", "bash", "-c", "cat log.txt; test -t 0")
    assert ERROR in shown
    assert ID.search(shown)
    assert len(shown) < len(LOG) / 2


def test_a_marker_that_the_output_has_itself_is_left_as_it_is(tmp_path):
    own = "[… lines 3-9 omitted, 40 tokens]"
    (tmp_path / "log.txt").write_text(f"{own}\n{LOG}\n{own}\n")
    shown = process("run", "--ratio", 0.2, "--", "cat", "log.txt").stdout.decode()
    assert shown.splitlines()[0] == own
    assert len(ID.findall(shown)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_is_shortened_does_not_lose_the_output(number):
    with socket.create_server(("127.0.0.1", 0)) as busy:  # a service that does not get to it
        url = f"http://127.0.0.1:{busy.getsockname()[1]}"
        with start("--url", url, "--", "bash", "-c", "cat log.txt; exit 5") as run:
            connection, _ = busy.accept()
            with connection:
                assert connection.recv(1)  # it waits for the answer
                run.send_signal(number)
                shown = run.stdout.read().decode()
                assert run.wait(10) == 5
    assert shown.replace(f"tamis: shortening was interrupted by {number.name}", "").startswith(
        ("; the output is printed as it is\n" + LOG, LOG)
    )


def test_shortening_that_takes_too_long_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        url = f"http://127.0.0.1:{busy.getsockname()[1]}"
        done = process("run", "--url", url, "--timeout", 99, "--", "cat", "log.txt")
    assert (done.returncode, done.stdout) == (0, LOG.encode())
    assert b"more than 20 seconds" in done.stderr


def test_lossless_leaves_nothing_out():
    from tamis.compressors.tools.lossless import restore

    done = process("run", "--lossless", "--", "cat", "log.txt")
    assert restore(done.stdout.decode()) == LOG
    assert len(done.stdout) < len(LOG)


def test_colours_are_gone_where_something_is_left_out(tmp_path):
    coloured = "".join(f"\x1b[32m{line}\x1b[0m\n" for line in LOG.splitlines())
    (tmp_path / "log.txt").write_text(coloured)
    shown = process("run", "--ratio", 0.2, "--", "cat", "log.txt").stdout.decode()
    assert ERROR in shown.splitlines()
    assert "\x1b" not in shown
    assert shown.count("; colours removed; tamis run --retrieve") == 1
    (key,) = ID.findall(shown)
    assert process("run", "--retrieve", key).stdout.decode() == coloured


@pytest.mark.parametrize("key", ["../../etc/passwd", "0" * 24, "", "x" * 24])
def test_an_id_that_is_not_here_is_an_error(key):
    done = process("run", "--retrieve", key)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", [(), ("--",), ("--ratoi", "2", "--", "true")], ids=str)
def test_a_command_line_without_a_command_is_an_error(words):
    assert process("run", *words).returncode == 2


def test_neither_typer_nor_a_model_library_is_loaded_and_few_modules_are():
    code = f"""
import atexit, sys
atexit.register(
    lambda: print(sorted(set({HEAVY!r}) & set(sys.modules)), len(sys.modules), file=sys.stderr)
)
sys.argv = ["tamis", "run", "--ratio", "0.2", "--", "cat", "log.txt"]
{SCRIPT}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    loaded, _, count = done.stderr.rpartition(" ")
    assert loaded == "[]"
    assert int(count) < 265
    assert ERROR in done.stdout
