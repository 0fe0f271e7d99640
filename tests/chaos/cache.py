"""200 processes killed while they write kept passages: `python -m tests.chaos.cache [KILLS]`."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.probes.kv_cache.test_disk import count_kills_while_writing


def main() -> None:
    """Prints how many kills there were, and how many of them fell into the middle of a file."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        torn = count_kills_while_writing(Path(folder), kills, random.Random(2))
    sys.stdout.write(f"{kills} kills, {torn} in the middle of a file, no damaged entry\n")


if __name__ == "__main__":
    main()
