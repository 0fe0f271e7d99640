"""`tamis pipe`: what a command prints, shortened on its way; nothing is lost on any error."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from tamis.compressors.options import Option
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput
from tamis.service.agents.shortening import MAX_BYTES, Shortening
from tamis.service.cli.display import EXIT_INTERRUPTED, EXIT_REFUSED
from tamis_agents.commands import (
    SHORTENING,
    limited_memory,
    print_warning,
    shortening_from,
)

_CHUNK_BYTES = 1 << 16

EPILOG = """
**Examples**

`set -o pipefail; pytest 2>&1 | tamis pipe -q "why does it fail?" --command pytest`

`git log -p | tamis pipe -q "who changed the timeout?" --max-tokens 2000`

`kubectl get pods -A -o json | tamis pipe --url http://localhost:8080` has a running service read it

Without `set -o pipefail` (bash, zsh) a pipe's exit status is that of `tamis pipe`.
"""
OPTIONS = (
    Option("What you want to know.", short="-q").of("question", str | None, None),
    Option("What prints, such as `git diff`: tells the format, and is part of the question.").of(
        "command", str | None, None
    ),
    *SHORTENING,
)


def run(question: str | None, command: str | None, **given: Any) -> int:
    """Shorten what a command prints: errors first, whole lines, omissions marked.

    Reads standard input to its end and writes it shortened. Whatever goes wrong, the input is
    written as it came, with a line on standard error and exit code 0 (2 for options that cannot be
    followed, 130 after Ctrl-C). More than 8 MiB pass through as they are, and so do bytes
    that are no text, such as an archive's.
    """
    stdin: BinaryIO = getattr(sys.stdin, "buffer", io.BytesIO())
    stdout = sys.stdout.buffer
    data, exit_code = _read_start(stdin, MAX_BYTES + 1), 0
    try:
        shortening = shortening_from(given)
        if len(data) > MAX_BYTES:
            _print_failure(f"the input has more than {MAX_BYTES:,} bytes")
        elif b"\0" not in data:  # bytes are not text, and come out as they are: see `run`
            data = _shorten(data, shortening, command, question)
    except Exception as error:
        _print_failure(str(error) or type(error).__name__)
        exit_code = EXIT_REFUSED if isinstance(error, BadInput) else 0
    except KeyboardInterrupt:  # loading and reading with a model take seconds
        _print_failure("it was interrupted")
        exit_code = EXIT_INTERRUPTED
    stdout.write(data)
    while chunk := stdin.read(_CHUNK_BYTES):
        stdout.write(chunk)
    stdout.flush()
    return exit_code


def _shorten(data: bytes, shortening: Shortening, command: str | None, asked: str | None) -> bytes:
    # bytes that are no UTF-8 come out as they came in
    text = data.decode("utf-8", "surrogateescape")
    with limited_memory(shortening):
        (short,) = shortening.apply([ToolOutput(text, command)], asked, print_warning)
    return short.encode("utf-8", "surrogateescape")


def _read_start(stdin: BinaryIO, limit: int) -> bytes:
    """The first bytes of standard input, up to a limit."""
    chunks: list[bytes] = []
    size = 0
    with _first_interrupt_ignored():
        while size < limit:
            chunk = stdin.read1(min(_CHUNK_BYTES, limit - size))  # type: ignore[attr-defined]
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
    return b"".join(chunks)


@contextmanager
def _first_interrupt_ignored() -> Iterator[None]:
    """Leaves a first Ctrl-C to the command that prints: its output until then is still wanted.

    The exception that Python makes of it might come between a read and the line that keeps what was
    read, and lose it; so there is none.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, before))
    except ValueError:  # not the main thread, to which alone signals come
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print_failure(why: str) -> None:
    print_warning(f"{why}; the input is passed on as it came")
