"""`python -m tests.golden record`, and `compare`: see `record.py`."""

from __future__ import annotations

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded: sums then have one order

from tests.golden.record import main

sys.exit(main())
