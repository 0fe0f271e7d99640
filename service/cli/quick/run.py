"""`tamis run`: runs a command and shortens what it printed; it ends as the command ends.

command ─ pipe, or two ─► collected ─ at its end ─► shortened ─► standard output
                              └─ too long, or too late ─► passed on as it comes
"""

from __future__ import annotations

import json as json_format
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from tamis.compressors.options import Option
from tamis.compressors.tools.types import RETRIEVE, ToolOutput
from tamis.probes.errors import BadInput
from tamis.service.agents.shell import inner_line, lasts, narrows
from tamis.service.agents.shortening import Shortening
from tamis.service.agents.store import OutputStore, some_lines
from tamis.service.cli.display import EXIT_REFUSED
from tamis.service.cli.quick.options import SHORTENING, print_warning, shortening_from

MAX_BYTES = 1 << 26
LIVE_AFTER_S, SHORTEN_S = 100.0, 20.0
"""Together within the two minutes after which agents end a command."""
_CHUNK_BYTES = 1 << 16
_QUIET_S = 0.1
_NOT_EXECUTABLE, _NOT_FOUND, _SIGNALLED = 126, 127, 128
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EPILOG = f"""
**Examples**

`tamis run -q "who changed the timeout?" --max-tokens 2000 -- git log -p`

`tamis run -- bash -c "make 2>&1"` runs a line of a shell

`{RETRIEVE} 0123456789abcdef01234567 --lines 12-47` gives back what a marker left out

Nothing changes in a terminal without a question or budget, after `| grep`, `| head` or `jq`, and
for servers and `tail -f`. What comes after {LIVE_AFTER_S:g} seconds or {MAX_BYTES >> 20} MiB passes
through.
"""
OPTIONS = (
    Option("The command with its arguments, behind `--`.", is_argument=True).of(
        "command", list[str], []
    ),
    Option("What you want to know.", short="-q").of("question", str | None, None),
    Option("Print the whole output that has this id.", metavar="ID").of(
        "retrieve", str | None, None
    ),
    Option("Only these of it, such as 12-47.").of("lines", str | None, None),
    Option(
        "Whether both streams are printed as one; auto does so where both go to the same place.",
        choices=lambda: ("auto", "together", "apart"),
    ).of("streams", str, "auto"),
    Option('Print {"stdout", "stderr", "interrupted"}.').of("json", bool, False),
    Option("Seconds after which the output passes through.").of("live_after", float, LIVE_AFTER_S),
    *SHORTENING,
)


def run(
    command: list[str],
    question: str | None,
    retrieve: str | None,
    lines: str | None,
    streams: str,
    json: bool,
    live_after: float,
    **given: Any,
) -> int:
    """Run a command and shorten what it prints: errors first, whole lines, omissions marked.

    The exit code is the command's own, 128 and the signal's number where a signal ended it, 127
    where it is not found. Signals go to it and what it started. Whatever goes wrong in shortening,
    the output is printed whole. A marker names the id by which all of it can be had again.
    """
    try:
        shortening = shortening_from(given)
        if retrieve is not None:
            return _give_back(retrieve, lines)
        if not command:
            raise BadInput("there is no command; put it behind --, such as tamis run -- pytest")
    except BadInput as error:
        print_warning(str(error))
        return EXIT_REFUSED
    asks = json or question is not None or shortening != Shortening()
    in_terminal = os.isatty(0) and os.isatty(1) and not asks
    is_own = os.path.basename(command[0]) == "tamis"
    if in_terminal or (not json and (lasts(command) or narrows(command) or is_own)):
        _become(command)
    apart = json or streams == "apart" or (streams == "auto" and not _is_same_place())
    done = _Running(command, apart, None if json else live_after).wait()
    if isinstance(done, OSError):
        return _report_unstarted(command, done)
    if not done.is_live:
        call = inner_line(command) or shlex.join(command)
        _print(done, shortening, call, question, json)
    done.leave()
    code = done.child.returncode
    return code if code >= 0 else _SIGNALLED - code


def _give_back(key: str, lines: str | None) -> int:
    data = OutputStore().get(key)
    if lines is not None:
        text = data.decode("utf-8", "surrogateescape")
        data = some_lines(text, lines).encode("utf-8", "surrogateescape")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return 0


def _is_same_place() -> bool:
    """Whether both outputs of this process are one file, pipe or terminal."""
    try:
        return os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:
        return False


def _become(command: Sequence[str]) -> NoReturn:
    """Replaces this process by the command."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        sys.exit(_report_unstarted(command, error))


def _report_unstarted(command: Sequence[str], error: OSError) -> int:
    """Says why a command cannot be started; the exit code of a shell that cannot."""
    print_warning(f"{command[0]} cannot be run: {error.strerror}")
    return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE


class _Running:
    """A command in a process group of its own, and what it has printed.

    Attributes:
        printed: what came, in order: whether it was standard error, and the bytes.
        is_live: whether it was passed on already.
        signals: that came for this process, and went to the command.
    """

    child: subprocess.Popen[bytes]

    def __init__(self, command: Sequence[str], apart: bool, live_after: float | None) -> None:
        self.command, self.apart, self.live_after = command, apart, live_after
        self.printed: list[tuple[bool, bytes]] = []
        self.is_live = False
        self.signals: list[int] = []
        self._size = 0
        self._open: dict[int, bool] = {}
        self._in_terminal = os.isatty(0)

    def wait(self) -> _Running | OSError:
        """Starts it and returns at its end; an error where it cannot be started."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._forward)
        try:
            self.child = subprocess.Popen(
                self.command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if self.apart else subprocess.STDOUT,
                # beside a terminal's own group it could not read from the terminal
                process_group=None if self._in_terminal else 0,
            )
        except OSError as error:
            return error
        for early in self.signals:  # which came before it was there
            self._send(early)
        dismiss = None if self._in_terminal else _guard(self.child.pid)
        for stream, is_error in ((self.child.stdout, False), (self.child.stderr, True)):
            if stream is not None:
                self._open[stream.fileno()] = is_error
        self._collect(woken)
        self.child.wait()
        if dismiss is not None:
            dismiss()
        return self

    def output(self, is_error: bool) -> bytes:
        """What it printed on a stream."""
        return b"".join(data for of_error, data in self.printed if of_error == is_error)

    def leave(self) -> None:
        """What it left behind in the background may go on printing, to where this process does."""
        if self._open and os.fork() == 0:
            for number in _FORWARDED:
                signal.signal(number, signal.SIG_DFL)
            with suppress(OSError):
                while self._open:
                    self._read(select.select(list(self._open), [], [])[0], self._pass)
            os._exit(0)

    def _collect(self, woken: int) -> None:
        """Reads to the end, or until the command has ended and is quiet."""
        begun = time.monotonic()
        while self._open:
            timeout = None
            if self.child.poll() is not None:
                timeout = _QUIET_S
            elif self.live_after is not None and not self.is_live:
                timeout = max(0.0, begun + self.live_after - time.monotonic())
            ready = select.select([*self._open, woken], [], [], timeout)[0]
            if woken in ready:
                os.read(woken, _CHUNK_BYTES)
            self._read([fd for fd in ready if fd != woken], self._take)
            if not ready and self.child.poll() is not None:
                return
            if not ready and not self.is_live:
                self._go_live()

    def _read(self, ready: Sequence[int], take: Callable[[bool, bytes], None]) -> None:
        for fd in ready:
            data = os.read(fd, _CHUNK_BYTES)
            if data:
                take(self._open[fd], data)
            else:
                del self._open[fd]

    def _take(self, is_error: bool, data: bytes) -> None:
        if self.is_live:
            return self._pass(is_error, data)
        self.printed.append((is_error, data))
        self._size += len(data)
        if self._size > MAX_BYTES and self.live_after is not None:
            self._go_live()

    def _go_live(self) -> None:
        self.is_live = True
        for is_error, data in self.printed:
            self._pass(is_error, data)

    def _pass(self, is_error: bool, data: bytes) -> None:
        _write(2 if is_error else 1, data)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if hasattr(self, "child"):
            self._send(number)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if not self._in_terminal:
                os.killpg(self.child.pid, number)
            elif number != signal.SIGINT:  # that of a terminal reaches the command by itself
                self.child.send_signal(number)


def _guard(group: int) -> Callable[[], None]:
    """Ends a process group if this process is killed; what is returned dismisses the guard.

    Who kills by SIGKILL means the command, which is in a group of its own.
    """
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for fd in {0, 1, 2, write}:
            with suppress(OSError):
                os.close(fd)
        if not os.read(read, 1):
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        os._exit(0)
    os.close(read)

    def dismiss() -> None:
        with suppress(OSError):
            os.write(write, b".")
        os.close(write)

    return dismiss


def _print(
    done: _Running, shortening: Shortening, call: str, question: str | None, json: bool
) -> None:
    data = [done.output(is_error) for is_error in (False, True)]
    # who asks for the end will not wait; and bytes are not text
    if signal.SIGTERM not in done.signals and not any(b"\0" in one for one in data):
        data = _shorten(data, shortening, call, question)
    if json:
        stdout, stderr = (one.decode("utf-8", "replace") for one in data)
        shown = {"stdout": stdout, "stderr": stderr, "interrupted": bool(done.signals)}
        data = [json_format.dumps(shown, ensure_ascii=False).encode() + b"\n", b""]
    for fd, one in enumerate(data, 1):
        _write(fd, one)


def _shorten(
    data: Sequence[bytes], shortening: Shortening, call: str, question: str | None
) -> list[bytes]:
    ends = [n for n in _FORWARDED if signal.getsignal(n) != signal.SIG_IGN]
    for number in (*ends, signal.SIGALRM):
        signal.signal(number, _give_up)
    signal.setitimer(signal.ITIMER_REAL, SHORTEN_S)
    try:
        # bytes that are no UTF-8 come out as they came in
        outputs = [ToolOutput(one.decode("utf-8", "surrogateescape"), call) for one in data]
        texts = shortening.apply(outputs, question, print_warning)
        return [text.encode("utf-8", "surrogateescape") for text in texts]
    except Exception as error:
        print_warning(f"{str(error) or type(error).__name__}; the output is printed as it is")
        return list(data)
    finally:  # from here on the output is written, and nothing is to stop that half-way
        for number in (*ends, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)


class _GivenUp(Exception):
    """Shortening was stopped; no error of the system, which libraries would take for theirs."""


def _give_up(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the shortening: who asks for the end, or waits for an answer, gets the output whole."""
    if number == signal.SIGALRM:
        raise _GivenUp(f"shortening takes more than {SHORTEN_S:g} seconds")
    raise _GivenUp(f"shortening was interrupted by {signal.Signals(number).name}")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
