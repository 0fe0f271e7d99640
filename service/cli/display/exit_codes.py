"""Exit codes of the commands."""

from __future__ import annotations

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130
