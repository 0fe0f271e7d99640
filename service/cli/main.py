"""`tamis`: where the command line starts, and how it ends when its output cannot be written.

Quick commands are loaded alone; all others together, as `app` puts them in order.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from tamis.service.cli.display import EXIT_REFUSED

if TYPE_CHECKING:
    from typing import TextIO

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

# read when torch is loaded: waiting threads spin for microseconds, then sleep. The default, to spin
# for long, takes ten times as long beside another busy process; to sleep at once takes a fifth
# longer on an idle machine
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def run() -> None:
    """Runs `tamis`."""
    run_command_line(lambda: _run_command(sys.argv[1:]))


def run_command_line(command: Callable[[], None]) -> None:
    """Runs a command line; output that cannot be written is one message and exit code 2."""
    if sys.stdout is None:  # closed: only a command that writes to it fails
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if error.errno == errno.EPIPE:
            sys.exit(1)
        if error.errno not in _UNWRITABLE:
            raise
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        message = f"tamis: the output cannot be written ({why}); make room, or send it elsewhere"
        with suppress(OSError):
            sys.stderr.write(f"{message}\n")
        sys.exit(EXIT_REFUSED)


def _run_command(words: list[str]) -> None:
    from tamis.service.cli.quick import find_quick_command, parse_quickly

    if words and (quick := find_quick_command(words[0])) is not None:
        if (values := parse_quickly(words[1:], quick.OPTIONS)) is not None:
            sys.exit(quick.run(**values))
    warnings.showwarning = _show_warning
    from tamis.service.cli.app import root_command

    try:
        root_command(words)(prog_name="tamis")
    except SystemExit as end:
        if words[:1] == ["pipe"] and end.code == EXIT_REFUSED:
            _pass_input_on()
        raise


_show_as_python_does = warnings.showwarning
_shown: set[str] = set()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of a package that is left out is a line, once; others look as they always do."""
    if category.__module__ != "tamis.probes.plugins":  # which is not imported for this alone
        _show_as_python_does(message, category, filename, lineno, file, line)
    elif str(message) not in _shown:
        _shown.add(str(message))
        sys.stderr.write(f"tamis: warning: {message}\n")


def _pass_input_on() -> None:
    """Standard input as it came: what a command printed is not lost to a mistyped option."""
    stdin = getattr(sys.stdin, "buffer", None)
    if stdin is not None and not stdin.isatty():
        shutil.copyfileobj(stdin, sys.stdout.buffer)


def _drop_output() -> None:
    """Discards buffered output, which the interpreter would try to write again at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
