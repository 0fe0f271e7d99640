"""`python -m tests.golden record`, and `compare`: see `record.py`."""

from __future__ import annotations

import sys

from tests.golden.record import main

sys.exit(main())
