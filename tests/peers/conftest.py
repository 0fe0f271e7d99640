"""What runs in the environments of peers is seen only where `make peers` says they are there."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("TAMIS_PEERS") else ["test_packages.py"]
