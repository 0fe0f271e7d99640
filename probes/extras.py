"""Packages that only some installations have."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tamis.probes.errors import MissingExtra


def import_extra(module: str, what: str, extra: str) -> Any:
    """A package of an extra; of `a.b`, that is `a`, with `b` loaded.

    Args:
        what: cannot be read without the package.

    Raises:
        MissingExtra: it is not installed, with the command that installs it.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise MissingExtra(f'{what} needs a package: pip install "tamis[{extra}]"') from error
    return sys.modules[module.partition(".")[0]]
