"""Headroom as an agent calls it: a question, a call, and the tool's message, which it shortens.

It knows no budget: what it leaves is as long as it likes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "adapters"))

from headroom import compress
from protocol import serve


def load(settings):
    def keep(case):
        function = {"name": case["name"] or "tool", "arguments": case["arguments"] or "{}"}
        call = {"id": "call_1", "type": "function", "function": function}
        messages = [
            {"role": "user", "content": case["question"] or "Go on."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": case["context"]},
        ]
        done = compress(
            messages,
            model="gpt-4o",
            protect_recent=0,
            protect_analysis_context=False,
            kompress_model="disabled",
        )
        return done.messages[-1]["content"]

    return keep


if __name__ == "__main__":
    serve(load, "headroom-ai")
