"""The question as one text: an instruction, earlier turns of the conversation, the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tamis.probes.errors import BadInput

COMPRESSION_REASON = "compression keeps what answers a question"


def question_text(
    question: str, instruction: str | None = None, history: Sequence[str] = ()
) -> str:
    """The question behind its instruction and history, a line each: the proxy reads rows of all.

    Words of the instruction and of earlier turns count as words of the question, so "who founded
    it?" finds what "it" was. All of it is read after every window, so long histories are costly.

    Raises:
        BadInput: one of them is not text, or the question is empty.
    """
    check_question(question, COMPRESSION_REASON)
    if isinstance(history, str) or not all(isinstance(turn, str) for turn in history):
        raise BadInput("history is a list of earlier turns, each a text, the oldest first")
    if instruction is not None and not isinstance(instruction, str):
        raise BadInput(f"instruction is {type(instruction).__name__}; give a text")
    lines = (instruction or "", *history, question)
    return "\n".join(line for line in lines if line.strip())


def check_question(question: Any, reason: str) -> None:
    """Refuses a question without text.

    Args:
        reason: why a question is needed, for the message.

    Raises:
        BadInput: it is no string, or white space alone.
    """
    if not isinstance(question, str):
        raise BadInput(f"the question is of type {type(question).__name__}; give a text")
    if not question.strip():
        raise BadInput(f"the question is empty; {reason}")
