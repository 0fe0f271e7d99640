"""Tests here run in the environments that `environments.py` makes, and are not seen elsewhere."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TAMIS_INTEGRATION") else ["test_*.py"]
