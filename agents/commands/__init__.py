"""`tamis pipe`, `run` and `hook`, which start in a tenth of a second, `mcp` and `estimate`.

What the quick ones share: the options of a `Shortening`, its memory, and its warnings. Imports the
rest of this package, and of tamis the command line; no typer while a quick command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tamis.compressors.options import options_of
from tamis.compressors.tools.types import MOST_TOKENS
from tamis.probes.errors import TamisError
from tamis.service.agents.shortening import RATIO, Shortening

SHORTENING = options_of(Shortening)
_MEMORY_BYTES = 200 << 20


def shortening_from(given: dict[str, Any]) -> Shortening:
    """What the options of `SHORTENING` add up to; they are taken out of `given`.

    Without a budget it is `RATIO` of the tokens, and `MOST_TOKENS` at most.

    Raises:
        BadInput: they cannot be followed.
    """
    shortening = Shortening(**{option.name: given.pop(option.parameter) for option in SHORTENING})
    if shortening.lossless or (shortening.max_tokens, shortening.ratio) != (None, None):
        return shortening
    return replace(shortening, max_tokens=MOST_TOKENS, ratio=RATIO)


@contextmanager
def limited_memory(shortening: Shortening) -> Iterator[None]:
    """Ends what takes more than 200 MiB, where the system counts them; models may take theirs.

    Raises:
        TamisError: it took more.
    """
    from tamis.probes.tokens import ESTIMATE

    used = Path("/proc/self/statm")  # which Linux alone has
    if shortening.method is not None or shortening.tokenizer != ESTIMATE or not used.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(used.read_text().split()[5]) * resource.getpagesize() + _MEMORY_BYTES
    most = most if before[1] < 0 else min(most, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    except MemoryError as error:
        raise TamisError(f"shortening takes more than {_MEMORY_BYTES >> 20} MiB") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def print_warning(warning: str) -> None:
    """Writes a warning to standard error; names of files in it cannot control the terminal."""
    from tamis.service.cli.display.output import printable

    sys.stderr.write(printable(f"tamis: {warning}\n"))
