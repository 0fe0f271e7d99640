"""The command line as a test calls it, with a tokenizer that counts words: no model is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import Result
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from tamis.service.cli.app import build_app

SCRIPT = "from tamis.service.cli.main import run; run()"


def word_tokenizer(folder: Path) -> Path:
    """A tokenizer.json: every run of characters without white space is one token."""
    made = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "words.json"))
    return folder / "words.json"


def tamis(*words: object, stdin: str | bytes | None = None) -> Result:
    """One run in this process."""
    return CliRunner().invoke(build_app(), [str(word) for word in words], input=stdin)


def process(*words: object, **arguments: object) -> subprocess.CompletedProcess[bytes]:
    """One run in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, words)],
        capture_output=True,
        check=False,
        timeout=600,
        **arguments,
    )
