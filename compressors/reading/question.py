"""The sentences of a question.

A support question has a title and a body, an agent's task instructions around it. Which of its
sentences asks is not known beforehand, so each is looked at on its own.
"""

from __future__ import annotations

from tamis.probes.prompt import Layout, QuestionTokens
from tamis.probes.segmentation.segment import segment

EMPTY_QUERY = "N/A"
"""The question whose scores are subtracted: what is attended to whatever is asked (ICR)."""
MAX_SENTENCES = 16
"""Longer questions are divided into so many runs of sentences, of about the same length."""


def question_sentences(question: str) -> tuple[tuple[int, int], ...]:
    """The half-open span of each sentence, in order, without the white space around it.

    At most `MAX_SENTENCES`; empty for a question of white space alone.
    """
    spans = [piece.visible for piece in segment(question)]
    if len(spans) <= MAX_SENTENCES:
        return tuple(spans)
    first, last = spans[0][0], spans[-1][1]
    runs: dict[int, tuple[int, int]] = {}
    for start, stop in spans:
        run = (start + stop - 2 * first) * MAX_SENTENCES // (2 * (last - first))
        runs[run] = runs.get(run, (start, stop))[0], stop
    return tuple(runs.values())


def tokenize_question(layout: Layout, question: str) -> QuestionTokens:
    """The question piece of a prompt, in which the rows of its sentences can be told apart."""
    return layout.question_tokens(question, question_sentences(question))
