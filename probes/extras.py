"""Packages that only some installations have."""

from __future__ import annotations

import logging
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
