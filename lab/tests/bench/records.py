"""Labelled records small enough to judge by hand, and a counter that needs no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.probes import tiny

NAMES = ("Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal")


def doc(*sentences: str, gold: Sequence[int] = (), title: str | None = None) -> dict[str, Any]:
    """Sentences joined by blanks, with their spans."""
    sents, at = [], 0
    for sentence in sentences:
        sents.append([at, at + len(sentence)])
        at += len(sentence) + 1
    return {"title": title, "text": " ".join(sentences), "sents": sents, "gold": list(gold)}


def record(name: str, question: str, *docs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": name, "question": question, "answerable": True, "docs": list(docs), **more}


def people() -> list[dict[str, Any]]:
    """One short passage a person; the second sentence says where each lives."""
    return [
        record(
            f"r{i}",
            f"Where does {name} live?",
            doc(
                f"{name} sings at noon.",
                f"{name} does live in town number {i}.",
                "The weather is mild.",
                "Nobody minds the rain here.",
                gold=[1],
                title=name,
            ),
            lang="en",
        )
        for i, name in enumerate(NAMES)
    ]


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf8").splitlines()]


def counting_folder(folder: Path) -> Path:
    """A proxy's folder with its tokenizer alone: enough for methods that read nothing."""
    folder.mkdir()
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    return folder
