"""Packages that only some installations have."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tamis.probes.errors import MissingExtra


@contextmanager
def needing(way_out: str) -> Iterator[None]:
    """Around the imports of packages that only some installations have.

    Args:
        way_out: the message where one is missing; `{name}` in it is its name.

    Raises:
        MissingExtra: it is.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(way_out.format(name=error.name)) from error


def import_extra(module: str, what: str, extra: str) -> Any:
    """A package of an extra; of `a.b`, that is `a`, with `b` loaded.

    Args:
        what: cannot be read without the package.

    Raises:
        MissingExtra: it is not installed, with the command that installs it.
    """
    with needing(f'{what} needs a package: pip install "tamis[{extra}]"'):
        import_module(module)
    return sys.modules[module.partition(".")[0]]


def connect_to_ray(module: str, what: str, extra: str) -> Any:
    """Ray with `module` loaded, on the cluster of RAY_ADDRESS or `ray start`, else on this machine.

    Args:
        module: `ray` or a part of it. what, extra: as for `import_extra`.

    Raises:
        MissingExtra: it is not installed, with the command that installs it.
    """
    ray = import_extra(module, what, extra)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return ray
