"""Tests in the environments of peers are collected only where `make peers` sets `TAMIS_PEERS`."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("TAMIS_PEERS") else ["test_packages.py"]
