"""The fixtures of tamis's own tests, for those of tamis-agents."""

from __future__ import annotations

from tests.conftest import (
    data_folder,
    encoder_folder,
    example_folder,
    nothing_kept,
    one_thread,
    proxy_folder,
)
from tests.service.conftest import free, words

__all__ = [
    "data_folder",
    "encoder_folder",
    "example_folder",
    "free",
    "nothing_kept",
    "one_thread",
    "proxy_folder",
    "words",
]
