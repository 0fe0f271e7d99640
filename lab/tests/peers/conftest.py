"""Tests in the environments of peers are collected only where `make peers` sets `TAMIS_PEERS`."""

from __future__ import annotations

import os

PACKAGES = ["test_packages.py", "test_tool_packages.py"]
collect_ignore = [] if os.environ.get("TAMIS_PEERS") else PACKAGES
