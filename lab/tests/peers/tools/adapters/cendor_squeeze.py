"""cendor-squeeze to a budget, which the proxy's tokenizer counts for it, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "adapters"))

from cendor.core import tokens
from cendor.squeeze import compress
from protocol import serve

from tamis.service.api.compress import counter_of


def load(settings):
    counter = counter_of("proxy", settings["proxy"])
    tokens.register("openai", lambda text, model: counter.count(text) if text else 0)
    return lambda case: compress(
        case["context"], target_tokens=case["budget_tokens"], model="gpt-4o"
    )[0]


if __name__ == "__main__":
    serve(load, "cendor-squeeze")
