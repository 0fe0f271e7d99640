"""Tokenizers, texts and checks that the tests of tool outputs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import PreparedToolOutputs, prepare_tool_outputs
from tamis.compressors.tools.types import CompressedToolOutput, Omission, ToolOutput
from tests.compressors.selection.select_kit import pairs

COUNTER = pairs()
OUTPUTS = Path(__file__).parent / "outputs"
"""Small outputs of real tools, as they were printed."""


def read_output(name: str) -> str:
    """One of the committed outputs."""
    return (OUTPUTS / name).read_text("utf8")


def prepared(
    text: str, question: str | None = None, call: str | None = None
) -> PreparedToolOutputs:
    """One output, parsed."""
    return prepare_tool_outputs([ToolOutput(text, call)], question, COUNTER)


def shorten(
    text: str, limit: int, question: str | None = None, call: str | None = None
) -> CompressedToolOutput:
    """One output within a limit in tokens, by BM25."""
    found = prepared(text, question, call)
    return found.select(found.score(Lexical()), [limit], default_marker)[0]


def at_ratio(text: str, ratio: float, question: str | None = None) -> CompressedToolOutput:
    """One output at a share of its tokens."""
    return shorten(text, int(COUNTER.count(text) * ratio), question)


def numbered_marker(omission: Omission) -> str:
    """A marker that can be found again, with the span that it stands for."""
    return f"<{omission.start}:{omission.stop}>"


def kept_lines(result: CompressedToolOutput) -> list[str]:
    """The lines that are shown, markers included."""
    return result.text.splitlines()


def spans_in_order(result: CompressedToolOutput) -> list[tuple[int, int]]:
    """Kept spans and omissions, sorted."""
    omitted = [(gap.start, gap.stop) for gap in result.omissions]
    return sorted([*result.kept, *omitted])


def shown_spans(text: str, result: CompressedToolOutput) -> Sequence[str]:
    """The kept spans' texts."""
    return [text[start:stop] for start, stop in result.kept]
