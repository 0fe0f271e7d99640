"""All that runs over text of a request takes time in proportion to its length.

    python -m tests.chaos --only parsers,stages

Parsers are timed on texts that repeat one part, the stages behind them on texts of two halves: what
is apart in one is together in the other, or a long line is beside short ones. Each has its names
and numbers. All at three lengths, in processor time.
"""

from __future__ import annotations

import gc
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from tamis.compressors.features.bm25 import visible_texts
from tamis.compressors.features.second_step import RequestTexts, level_features, unit_structure
from tamis.compressors.features.words import (
    NamedTexts,
    hop_features,
    record_texts,
    word_features,
)
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.pipeline.compression import Compressor, Prepared, Request
from tamis.compressors.rules import Budget, Rules, parse_citation
from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.rendering import Renderer
from tamis.compressors.selection.select import select
from tamis.compressors.tools.lossless import write_shorter
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.novelty import novelty
from tamis.compressors.tools.prepare import PreparedToolOutputs, prepare_tool_outputs
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import TamisError
from tamis.probes.tokens import TextTokenizer, estimating_tokenizer
from tamis.retrieval.index.filters import meets_all, parse_conditions
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.schemas.dialects.compressing import InputRequest
from tamis.service.http.schemas.json import Decoder, PatientDecoder, loads
from tamis.service.http.schemas.patterns import count_states
from tamis.text.inputs import parse_keep_tags
from tamis.text.language import resolve_language
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.terms import words
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import segment, split_long_units, units_of

MOST_SLOPE = 1.2
"""Of log time against log size; a quadratic parser has 2."""
LEAST_S = 0.0001
"""Shorter runs are not compared: they are fast enough, and noise is a large part of them."""
SIZES = (1 << 12, 1 << 15, 1 << 18)
"""Far apart: memory beyond the caches costs up to twice as much, a sixth of the slope here."""
SHORT_SIZES = (1 << 10, 1 << 13, 1 << 16)
MOST_SHORT_SLOPE = 1.4
"""Of short texts, where what is new to the caches is a larger part."""
STAGE_SIZES, MOST_STAGE_SLOPE = (1 << 16, 1 << 18, 1 << 20), 1.1
"""Up to a megabyte. What takes more time in proportion does so in both steps; where one step passes
the size of a cache, or the last of a budget is hard to fill, the other does not."""
ATTEMPTS = 12


def keep_tags(text: str) -> None:
    parse_keep_tags(Passage(text), 0)


def safe_tags(text: str) -> None:
    InputRequest(input=text, query="a?").to_call(None)


VALUES = ["[],", "1,", "{},", '"a",', "1e5,"]


def split_for_little_room(text: str) -> object:
    """Units of a text, split for a budget that holds none of them."""
    passages = [Passage(text)]
    return split_long_units(passages, units_of(passages), ByteCounter(), 1)


class ByteCounter(TextTokenizer):
    """A token a byte."""

    def __init__(self) -> None:
        pass

    def count(self, text: str) -> int:
        """The number of bytes."""
        return len(text.encode())


PARSERS: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "units split": (split_for_little_room, ["It rains. ", "- It rains. It snows.\n", "a,b,c\n"]),
    "keep tags": (keep_tags, ["<keep>", "</keep>", "<keep>a</keep>", "<keep", "<"]),
    "safe tags": (safe_tags, ["<ttc_safe>", "</ttc_safe>", "<ttc_safe>a</ttc_safe>", "<ttc_", "<"]),
    "retrieval tags": (
        RetrievalTags(["context"]).parse,
        [
            "<context>",
            "</context>",
            "<context>a</context>",
            "<context ",
            "<context '",
            '<context "a"',
            "</context ",
            "<",
            "\" '",
            " ",
        ],
    ),
    "documents in retrieval tags": (
        lambda text: RetrievalTags(["context"]).parse(f"<context>{text}</context>"),
        [
            "<document>",
            "<document></document>",
            "<document>a</document>\n",
            "<document><document_content>a</document_content></document>",
            "<document_content>",
            "</document_content ",
        ],
    ),
    "pattern states": (count_states, ["(", "a|", "[", "a{2}", "(a)", "\\", "(?:", "a*", "{", "[]"]),
    "citations": (parse_citation, ["{", "}", "{id}", "{{", "{id", "a"]),
    "words": (words, ["a", "a ", "a'", "é\u0301", "漢", "1.", "-", "a_", "Ａ", " "]),
    "words with marks in no order": (
        lambda text: words("a" + "\u0301" * (len(text) // 2) + "\u0316" * (len(text) // 2)),
        ["a"],
    ),
    "language": (
        lambda text: resolve_language("auto", "a?", [text]),
        ["a", "the ", "漢", "ß ", "\n", "е "],
    ),
    "json": (
        lambda text: loads(text.encode()),
        ["[", '"', "\\", '{"a":', "1", "0.", " ", "\ufeff"],
    ),
    "json string": (lambda text: loads(f'"{text}"'.encode()), ["\\u0041", "\\n", "a", "é"]),
    "json list": (lambda text: Decoder().decode(f"[{text}0]"), VALUES),
    "json list, value by value": (lambda text: PatientDecoder().decode(f"[{text}0]"), VALUES),
    "tool outputs": (
        parse_tool_output,
        [
            "a",
            " ",
            "\n",
            "\t",
            "\r",
            "a\n",
            " a\n",
            ":1",
            "::",
            "= ",
            "=== a ===\n",
            "___ a ___\n",
            "E   a\n",
            "a.py::b PASSED [ 1%]\n",
            "Traceback (most recent call last):\n",
            '  File "a", line 1\n',
            "AError: a\n",
            "\tat a.b(c.java:1)\n",
            "    at a (b.js:1:1)\n",
            "Caused by: a\n",
            "--- FAIL: a\n",
            "=== RUN a\n",
            "panic: a\n\n",
            "thread 'a' panicked at b\n",
            "---- a stdout ----\n",
            "error[E1]: a\n",
            "a.c:1:1: error: b\n",
            "a.c: In function 'b':\n",
            "  1:1 error a\n",
            "[ERROR] a\n",
            " > a FAILED",
            "npm error code A\n",
            "#1 [a\n#1 b\n",
            "✕ a\n",
            "10:00:00 INFO a\n",
            "10:00:00 ERROR a\n b\n",
            "{\n",
            "[",
            '{"a":',
            '{"a": 1}\n',
            "diff --git a b\n",
            "@@ -1,9 +1,9 @@\n",
            "@@ -1 +1 @@\n-a\n+b\n",
            "commit 0123456\n\n    a\n",
            "a/b.py:1:c\n",
            "a.py\n1:b\n",
            "./a:\nb\n\n",
            "├── a\n",
            "│   ",
            "A B C\n",
            "a,b,c\n",
            "-+-\n",
            " a | b\n",
            "<html>",
            "\x1b[31m",
            "exit status 1\n",
            "exit code ",
            "F821 a\n --> b:1:1\n",
            "a.py:1:1: F821 b\n",
        ],
    ),
    "tool outputs in JSON": (
        lambda text: parse_tool_output(json.dumps({"a": text})),
        ["a", "a\n", "\n", "\\", "\\n", '"', "AError: a\n"],
    ),
    "tool outputs that are JSON": (
        lambda text: parse_tool_output(f"[{text}0]"),
        ["1,", "[1],", '{"a": 1},', '"a",', '{"a": {"b": [1, 2]}},', "\n1,", "[[[[1]]]],"],
    ),
    "segments": (
        segment,
        [
            "a",
            "a ",
            ". ",
            "A. ",
            "a.\n",
            "\n",
            "- a\n",
            "# a\n",
            "| a ",
            "| a |\n",
            "```\n",
            "    a\n",
            "<",
            "<p>",
            "<table><tr><td>",
            "</div>",
            "<!--",
            "<pre>",
            "<a href='",
            "&amp;",
            "{",
            "[",
            '{"a": 1}\n',
            '{"a":',
            "a: b\n",
            "1. a\n",
            "User: a\n",
            "12:00 A: b\n",
            "e.g. ",
            "\u0301",
            "\U0001f1e6",
            "\u200d",
            "漢。",
            "\r\n",
            "\t",
            ">",
            "> a\n",
            "---\n",
            "===\n",
            "\\begin{a}",
            "$$",
            "def a():\n",
            "/*",
            "//a\n",
            '"""',
            "'",
            '"',
            "(",
            "a,b\n",
            "[a]\n",
        ],
    ),
}


def cases() -> Iterator[tuple[str, str]]:
    for name, (_, parts) in PARSERS.items():
        for part in parts:
            yield name, part


LINES = (
    "It is so!",
    "😀 It is so!",
    "k{n}: a",
    "name: SO-{n}",
    "a = {n}",
    "- a {n}.",
    "  - SO-{n}: a",
    "# a {n}",
    "Is it {n}?",
    "See {n}:",
    "| a | {n} |",
    "a,SO-{n},",
    '{{"SO-{n}": "a"}},',
    '"k{n}": [{n}],',
    "    k{n}:\n      a: {n}",
    "> a {n}",
    "User: a",
    "12:00 a: b",
    "def a{n}():",
    "[a{n}]",
    "[^{n}] a.",
    "<li>a</li>",
    "在这里。",
    "a{n}.py:1:1: error: b",
    "    at a.b(C{n}.java:1)",
    "Regards, A",
    "((",
)
HALVES = (("\n\n", "\n"), (" ", "\n"), ("\n", " "), (" ", " "))
"""What ends the lines of either half."""
ASKED = "What is the name of SO-10490 or k3, it was a?"


def two_halves(line: str, ends: tuple[str, str], size: int) -> str:
    """A text of at most so many characters in which a line is repeated with two ends."""
    longest = len(line.format(n=size)) + 2
    count = size // 2 // longest
    halves = ("".join(line.format(n=n) + end for n in range(count)) for end in ends)
    return "\n".join(halves)


@dataclass(frozen=True)
class Read:
    """A text whose units were found."""

    text: str

    @cached_property
    def passages(self) -> list[Passage]:
        return [Passage(self.text)]

    @cached_property
    def units(self) -> list[Unit]:
        return list(units_of(self.passages))

    @cached_property
    def texts(self) -> list[str]:
        return visible_texts(self.passages, self.units)

    @cached_property
    def prepared(self) -> Prepared:
        return COMPRESSOR.prepare(Request(ASKED, self.passages, Budget(ratio=0.5)))

    @cached_property
    def values(self) -> list[float]:
        draw = random.Random(0)
        return [draw.random() for _ in self.units]

    @cached_property
    def outputs(self) -> PreparedToolOutputs:
        return prepare_tool_outputs([ToolOutput(self.text)], ASKED, COUNTER)


COUNTER = estimating_tokenizer()
COMPRESSOR = Compressor(Lexical(), "lexical", COUNTER)


def named(read: Read) -> None:
    headings = unit_structure(read.passages, read.units).heading
    NamedTexts.find(ASKED, lambda: record_texts(read.passages, read.units, headings))


def filtered(read: Read) -> None:
    words = read.text.split()
    (condition,) = parse_conditions({"tags": words})
    documents = ({"id": "", "title": None, "metadata": {"tags": ["", w]}} for w in words[::-1])
    assert all(meets_all(document, [condition]) for document in documents)


def word_steps(read: Read) -> None:
    texts = RequestTexts.of(ASKED, read.passages, read.units, [len(t) for t in read.texts])
    word_features(ASKED, texts.lexicon, texts.tokens)
    scores = np.array(read.values)
    hop_features(texts.lexicon, scores)
    level_features(texts.structure, scores)


STAGES: dict[str, Callable[[Read], object]] = {
    "segments": lambda read: segment(read.text),
    "groups": lambda read: Groups(read.units, read.passages),
    "worths": lambda read: Groups(read.units, read.passages).worths(read.values, True),
    "identifiers": named,
    "filters": filtered,
    "words": word_steps,
    "selection": lambda read: COMPRESSOR.select(read.prepared, COMPRESSOR.score(read.prepared)),
    "selection by value": lambda read: select(
        read.passages,
        read.units,
        read.values,
        [1.0],
        Budget(max_tokens=len(read.text) // 16),
        Rules(fill=True, citations="[{doc}.{unit}]", elision="…"),
        COUNTER,
        calibrated=True,
    ),
    "rendering": lambda read: Renderer(read.passages, read.units, Rules(elision="…")).text(
        range(0, len(read.units), 2)
    ),
    "tool outputs": lambda read: prepare_tool_outputs([ToolOutput(read.text)], ASKED, COUNTER),
    "tool outputs cut": lambda read: read.outputs.select(
        [0.5] * len(read.outputs.units), [read.outputs.tokens_in[0] // 3], default_marker
    ),
    "tool outputs without loss": lambda read: write_shorter(read.text, COUNTER),
    "repeats told apart": lambda read: novelty(
        read.text, parse_tool_output(read.text).parts, ASKED
    ),
}


def stage_cases() -> Iterator[tuple[str, str, tuple[str, str]]]:
    for name in STAGES:
        for line in LINES:
            for ends in HALVES:
                yield name, line, ends


def seconds(run: Callable[[], object], times: int = 2) -> float:
    """The least time of several runs, without collections of garbage that others made."""
    least = math.inf
    gc.disable()
    try:
        for _ in range(times):
            began = time.thread_time()
            with suppress(TamisError, ValueError):  # refused, in time
                run()
            least = min(least, time.thread_time() - began)
    finally:
        gc.enable()
    return least


def growth(
    of_size: Callable[[int], Callable[[], object]],
    sizes: tuple[int, ...],
    most: float,
    slope_of: Callable[[dict[int, float]], float] | None = None,
) -> tuple[float, dict[int, float]]:
    """The slope of log time against log size, and the times; repeated while the slope is large."""
    # other work on the machine makes some runs slower and none faster
    least, slope = dict.fromkeys(sizes, math.inf), math.inf
    for _ in range(ATTEMPTS):
        for size in sizes:
            least[size] = min(least[size], seconds(of_size(size)))
        slope = (slope_of or _slope)(least)
        if slope <= most:
            break
    return slope, least


def check_growth(
    name: str, part: str, sizes: tuple[int, ...] = SIZES, most: float = MOST_SLOPE
) -> None:
    """Fails where a parser takes more time than in proportion to the length of its text."""
    parse = PARSERS[name][0]
    slope, least = growth(lambda n: partial(parse, part * (n // len(part))), sizes, most)
    assert slope <= most, (name, part, least)


def check_stage(
    name: str,
    line: str,
    ends: tuple[str, str],
    sizes: tuple[int, ...] = STAGE_SIZES,
    most: float = MOST_STAGE_SLOPE,
) -> None:
    """Fails where a stage takes more time than in proportion to the length of its text."""

    def of_size(size: int) -> Callable[[], object]:
        read = Read(two_halves(line, ends, size))
        with suppress(TamisError):
            STAGES[name](read)  # what it needs is there
        return lambda: STAGES[name](read)

    slope, least = growth(of_size, sizes, most, _least_slope)
    assert slope <= most, (name, line, ends, least)


def _least_slope(times: dict[int, float]) -> float:
    """The least of those between two sizes that follow each other."""
    return min(_slope(dict(step)) for step in pairwise(times.items()))


def _slope(times: dict[int, float]) -> float:
    """Of log time against log size; 0 where the longest text takes hardly any time."""
    long_enough = {size: taken for size, taken in times.items() if taken > LEAST_S}
    if len(long_enough) < 2:
        return 0.0 if times[max(times)] < 50 * LEAST_S else math.inf
    (small, first), (large, last) = min(long_enough.items()), max(long_enough.items())
    return math.log(last / first) / math.log(large / small)
