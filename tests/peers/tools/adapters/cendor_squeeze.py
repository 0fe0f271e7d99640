"""cendor-squeeze to a budget, which it counts with a tokenizer of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "adapters"))

from cendor.squeeze import compress
from protocol import serve


def load(settings):
    return lambda case: compress(case["context"], target_tokens=case["budget_tokens"])[0]


if __name__ == "__main__":
    serve(load, "cendor-squeeze")
