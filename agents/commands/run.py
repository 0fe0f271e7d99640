"""`tamis run`: runs a command and shortens what it printed; it ends as the command ends.

command ─ pipe, or two ─► collected ─ at its end, or in parts ─► shortened ─► standard output
                              └─ too long ─► passed on as it comes
"""

from __future__ import annotations

import codecs
import json as json_format
import math
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

from tamis.compressors.options import Option
from tamis.compressors.tools.types import RETRIEVE, ToolOutput
from tamis.probes.errors import BadInput
from tamis.service.agents.shortening import MAX_BYTES, MIN_TOKENS, Shortening
from tamis.service.agents.store import OutputStore, some_lines
from tamis.service.cli.display import EXIT_REFUSED
from tamis_agents.commands import (
    SHORTENING,
    limited_memory,
    print_warning,
    shortening_from,
)
from tamis_agents.shell import inner_line, lasts, narrows

LIVE_AFTER_S, SHORTEN_S = 100.0, 20.0
"""Together within the two minutes after which agents end a command."""
_PART_S = 15.0
_CHUNK_BYTES = 1 << 16
_QUIET_S, _IDLE_S = 0.1, 3600.0
_NOT_EXECUTABLE, _NOT_FOUND, _SIGNALLED = 126, 127, 128
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EPILOG = f"""
**Examples**

`tamis run -q "who changed the timeout?" --max-tokens 2000 -- git log -p`

`tamis run -- bash -c "make 2>&1"` runs a line of a shell

`{RETRIEVE} 0123456789abcdef01234567 --lines 12-47` gives back what a marker left out

Nothing changes in a terminal without a question or budget, after `| grep`, `| head` or `jq`, and
for servers and `tail -f`. After {LIVE_AFTER_S:g} seconds the output comes in parts, each shortened
by itself; more than {MAX_BYTES >> 20} MiB pass through.
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
    Option("Seconds after which the output comes in parts.").of("live_after", float, LIVE_AFTER_S),
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
    asks = json or question is not None or any(given[o.parameter] != o.default for o in SHORTENING)
    try:
        shortening = shortening_from(given)
        if retrieve is not None:
            return _give_back(retrieve, lines)
        if not command:
            raise BadInput("there is no command; put it behind --, such as tamis run -- pytest")
    except BadInput as error:
        print_warning(str(error))
        return EXIT_REFUSED
    in_terminal = os.isatty(0) and os.isatty(1) and not asks
    is_own = os.path.basename(command[0]) == "tamis"
    if in_terminal or (not json and (lasts(command) or narrows(command) or is_own)):
        _become(command)
    apart = json or streams == "apart" or (streams == "auto" and not _is_same_place())
    call = inner_line(command) or shlex.join(command)
    show = _Shown(shortening, call, question, _Json() if json else None)
    done = _Running(command, apart, math.inf if json else live_after, show).wait()
    if isinstance(done, OSError):
        return _report_unstarted(command, done)
    done.show_part()
    if show.json is not None:
        show.json.end(bool(done.signals))
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
        held: what came on standard output, and on standard error, and has not been shown.
        is_live: whether what comes is passed on.
        signals: that came for this process, and went to the command.
    """

    child: subprocess.Popen[bytes]

    def __init__(
        self, command: Sequence[str], apart: bool, live_after: float, show: _Shown
    ) -> None:
        self.command, self.apart, self.live_after, self.show = command, apart, live_after, show
        self.held = (bytearray(), bytearray())
        self.is_live, self._due = False, math.inf
        self.signals: list[int] = []
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
                signal.signal(number, self.forward)
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

    def show_part(self) -> None:
        """Shows what is held, shortened; later parts get half of the tokens."""
        if not any(self.held):
            return
        held = [bytes(one) for one in self.held]
        for stream in self.held:
            stream.clear()
        # who asks for the end will not wait; and bytes are not text
        if signal.SIGTERM not in self.signals and not any(b"\0" in one for one in held):
            held = self.show.shortened(held, self)
        for is_error, one in enumerate(held):
            self.show.write(bool(is_error), one)

    def leave(self) -> None:
        """What it left behind in the background may go on printing, to where this process does."""
        if self._open and os.fork() == 0:
            for number in _FORWARDED:
                signal.signal(number, signal.SIG_DFL)
            with suppress(OSError):
                while self._open:
                    self._read(select.select(list(self._open), [], [])[0], _pass)
            os._exit(0)

    def _collect(self, woken: int) -> None:
        """Reads to the end, or until the command has ended and is quiet."""
        self._due = time.monotonic() + self.live_after
        while self._open:
            has_ended = self.child.poll() is not None
            left = _QUIET_S if has_ended else min(max(0.0, self._due - time.monotonic()), _IDLE_S)
            ready = select.select([*self._open, woken], [], [], left)[0]
            if woken in ready:
                os.read(woken, _CHUNK_BYTES)
            self._read([fd for fd in ready if fd != woken], self._take)
            if has_ended and not ready:
                return
            if not has_ended and time.monotonic() >= self._due:
                self._due = time.monotonic() + min(self.live_after, _PART_S)
                self._go_on_in_parts()

    def _read(self, ready: Sequence[int], take: Callable[[bool, bytes], None]) -> None:
        for fd in ready:
            data = os.read(fd, _CHUNK_BYTES)
            if data:
                take(self._open[fd], data)
            else:
                del self._open[fd]

    def _take(self, is_error: bool, data: bytes) -> None:
        if self.is_live:
            return self.show.write(is_error, data)
        self.held[is_error].extend(data)
        if sum(map(len, self.held)) > MAX_BYTES:
            self.is_live, self._due = True, math.inf
            print_warning(f"more than {MAX_BYTES:,} bytes; the output is passed on as it comes")
            for of_error, held in enumerate(self.held):
                self.show.write(bool(of_error), held)
                held.clear()

    def _go_on_in_parts(self) -> None:
        if not any(self.held):
            return
        if not self.show.is_in_parts:
            print_warning(
                f"it is not done after {self.live_after:g} seconds; its output comes in parts, "
                "each shortened by itself"
            )
        self.show.halve()
        self.show_part()

    def forward(self, number: int, frame: FrameType | None = None) -> None:
        """Sends a signal that came for this process to the command."""
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


class _Shown:
    """Where output goes, and how it is shortened.

    Attributes:
        json: that it is written as, if it is.
        is_in_parts: whether more than one part is shown.
    """

    def __init__(
        self, shortening: Shortening, call: str, question: str | None, json: _Json | None
    ) -> None:
        self.shortening, self.call, self.question, self.json = shortening, call, question, json
        self.is_in_parts = False

    def write(self, is_error: bool, data: bytes | bytearray) -> None:
        (self.json.write if self.json is not None else _pass)(is_error, data)

    def halve(self) -> None:
        """Leaves half of the tokens, but at least `MIN_TOKENS`, to the next part."""
        self.is_in_parts = True
        if (most := self.shortening.max_tokens) is not None:
            self.shortening = replace(self.shortening, max_tokens=max(most // 2, MIN_TOKENS))

    def shortened(self, data: list[bytes], running: _Running) -> list[bytes]:
        """Both streams, shortened; as they are on any error, or if a signal ends this."""

        stopped: list[int] = []
        before: dict[int, Any] = {}

        def give_up(number: int, frame: FrameType | None) -> None:
            if number != signal.SIGALRM and running.child.returncode is None:
                running.forward(number)
            if not stopped:  # once: what follows the first is not to be stopped half-way
                stopped.append(number)
                name = signal.Signals(number).name
                takes = f"shortening takes more than {SHORTEN_S:g} seconds"
                was = f"shortening was interrupted by {name}"
                raise _GivenUp(takes if number == signal.SIGALRM else was)

        def restore() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

        try:
            try:
                for number in (*_FORWARDED, signal.SIGALRM):
                    if signal.getsignal(number) != signal.SIG_IGN:
                        before[number] = signal.signal(number, give_up)
                signal.setitimer(signal.ITIMER_REAL, SHORTEN_S)
                # bytes that are no UTF-8 come out as they came in
                texts = [one.decode("utf-8", "surrogateescape") for one in data]
                with limited_memory(self.shortening):
                    outputs = [ToolOutput(text, self.call) for text in texts]
                    texts = self.shortening.apply(outputs, self.question, print_warning)
                return [text.encode("utf-8", "surrogateescape") for text in texts]
            finally:
                restore()
        except Exception as error:
            restore()  # which the signal itself may have stopped
            print_warning(f"{str(error) or type(error).__name__}; the output is printed as it is")
            return data


class _GivenUp(Exception):
    """Shortening was stopped; no error of the system, which libraries would take for theirs."""


class _Json:
    """Both streams as an object, of which little is held: standard error waits in a file."""

    def __init__(self) -> None:
        import tempfile

        self._errors = tempfile.SpooledTemporaryFile(MAX_BYTES)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begin = '{"stdout": "'

    def write(self, is_error: bool, data: bytes | bytearray) -> None:
        """Writes output to its place."""
        if is_error:
            self._errors.write(data)
        else:
            self._text(data)

    def end(self, was_interrupted: bool) -> None:
        """Writes the rest of the object."""
        self._text(b"", True)
        self._begin = '", "stderr": "'
        self._errors.seek(0)
        while data := self._errors.read(_CHUNK_BYTES):
            self._text(data)
        self._text(b"", True)
        _write(1, f'", "interrupted": {json_format.dumps(was_interrupted)}}}\n'.encode())

    def _text(self, data: bytes | bytearray, final: bool = False) -> None:
        for at in range(0, max(len(data), 1), _CHUNK_BYTES):
            text = self._decoder.decode(data[at : at + _CHUNK_BYTES], final)
            shown = json_format.dumps(text, ensure_ascii=False)[1:-1]
            _write(1, (self._begin + shown).encode())
            self._begin = ""


def _pass(is_error: bool, data: bytes | bytearray) -> None:
    _write(2 if is_error else 1, data)


def _write(fd: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
