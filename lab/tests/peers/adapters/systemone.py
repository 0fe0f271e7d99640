"""A decision model behind a URL (System One's protocol), asked by tamis's method `systemone`.

The folder of weights has a file systemone.json: `{"url": "http://...", "model": "..."}`.
"""

from __future__ import annotations

import json
from pathlib import Path

from protocol import serve

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import build_method
from tamis.compressors.rules import Budget
from tamis.service.api.compress import counter_of
from tamis.text.types import Passage


def load(settings):
    options = json.loads((Path(settings["weights"]) / "systemone.json").read_text("utf-8"))
    counter = counter_of("proxy", settings["model"])
    compressor = Compressor(build_method("systemone", **options), "systemone", counter)

    def keep(case):
        passages = [Passage(d["text"], str(i), d["title"]) for i, d in enumerate(case["docs"])]
        budget = Budget(case["budget_tokens"])
        return compressor.compress(case["question"], passages, budget).text

    return keep


if __name__ == "__main__":
    serve(load, "tamis")
