"""Batches as a test runs them: BM25 and a tokenizer that counts words, so no model is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.service.cli.cli_kit import tamis, word_tokenizer

QUERY = "When was the old harbour of Malo closed?"
SENTENCES = (
    "The old harbour of Malo was closed in {n}.",
    "Ships came in spring and left with the first frost of {n}.",
    "Bread was cheap then, and a loaf cost {n} pennies.",
    "Nobody knew why the lighthouse keeper wrote {n} letters.",
)


def rows(count: int, documents: int = 2) -> list[dict[str, Any]]:
    """Rows that differ in length and content; some fit into a small budget whole."""
    return [
        {
            "id": f"r{i}",
            "question": f"When was the old harbour of Malo closed, in {i}?",
            "documents": [
                {
                    "id": f"r{i}-{d}",
                    "text": " ".join(
                        s.format(n=i * 10 + d + k) for k in range(1 + i % 5) for s in SENTENCES
                    ),
                    "metadata": {"place": d},
                }
                for d in range(documents)
            ],
        }
        for i in range(count)
    ]


def write_lines(path: Path, values: Iterable[Any]) -> Path:
    """Writes JSON Lines; a string becomes a line without quotes."""
    lines = (v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


class ModelFreeBatch:
    """Runs batches in one folder, with options that need no model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = ("--method", "lexical", "--max-tokens", 20, "--part-rows", 4)
        words = word_tokenizer(folder)
        self.models = ("--tokenizer", words, "--home", folder / "none")

    def run(self, *words: object) -> Result:
        """`tamis batch run` on these inputs and options."""
        return tamis("batch", "run", *words, *self.options, *self.models)

    def run_to_end(self, *words: object, status: int = 0) -> Result:
        """A run, which must end with this status."""
        result = self.run(*words)
        assert result.exit_code == status, result.stderr
        return result


def read_rows(out: Path, pattern: str = "part-*.jsonl") -> list[dict[str, Any]]:
    """All rows of an output, part by part."""
    text = "".join(part.read_text("utf-8") for part in sorted(out.glob(pattern)))
    return [json.loads(line) for line in text.splitlines()]


def part_bytes(out: Path) -> dict[str, bytes]:
    """The parts of an output, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def assert_refused(result: Result, message: str, out: Path) -> None:
    """Checks for one sentence, status 2, and no output."""
    assert result.exit_code == 2, (result.exit_code, result.exception, result.stderr)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
