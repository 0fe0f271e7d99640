"""The fixtures of tamis's own tests, for those of the lab."""

from __future__ import annotations

from tests.conftest import (
    data_folder,
    encoder_folder,
    example_folder,
    nothing_kept,
    one_thread,
    proxy_folder,
)

__all__ = [
    "data_folder",
    "encoder_folder",
    "example_folder",
    "nothing_kept",
    "one_thread",
    "proxy_folder",
]
