"""Truncation: the first tokens of the context, as many as the budget allows."""

from __future__ import annotations

from pathlib import Path

from protocol import serve
from tokenizers import Tokenizer


def load(settings):
    given = Path(settings["proxy"])
    file = given if given.is_file() else given / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))

    def keep(case):
        text = case["context"]
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return text[: offsets[: case["budget_tokens"]][-1][1]] if offsets else ""

    return keep


if __name__ == "__main__":
    serve(load, "tokenizers")
