"""The environments that peers run in, each with pinned versions of its own.

    python -m tests.peers.environments            # all of them: `make peers` runs this first
    python -m tests.peers.environments NAME ...   # some

An environment is a file NAME.txt here, requirements for pip. It stands in .venv/peers/NAME and is
made anew when its file has changed. What it does not pin, torch above all, comes from the
environment that this script runs in, so that every peer multiplies with the same library.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.environments import ROOT, Environments

PEERS = Environments(Path(__file__).parent, ROOT / ".venv/peers")

if __name__ == "__main__":
    sys.exit(PEERS.each(sys.argv[1:], PEERS.made))
