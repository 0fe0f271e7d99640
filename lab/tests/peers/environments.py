"""The environments that peers run in, each with pinned versions of its own.

    python -m lab.tests.peers.environments            # all of them: `make peers` runs this first
    python -m lab.tests.peers.environments NAME ...   # some

An environment is a file NAME.txt in this folder, requirements for pip. It is made in
.venv/peers/NAME, and again when its file has changed. Packages that it does not pin, above all
torch, come from the environment of this script, so that all peers multiply with the same library.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.environments import ROOT, Environments

PEERS = Environments(Path(__file__).parent, ROOT / ".venv/peers")

if __name__ == "__main__":
    sys.exit(PEERS.each(sys.argv[1:], PEERS.made))
