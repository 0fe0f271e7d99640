"""What callers give: a question with its instruction and history, documents, `<keep>` tags.

Errors name a document by its place in the list. Text is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from numbers import Integral, Real
from operator import index as index_of
from typing import Any

from tamis.probes.errors import BadInput
from tamis.text.types import Passage, Unit

COMPRESSION_REASON = "compression keeps what answers a question"
KNOWN_FIELDS = ("text", "id", "title", "metadata", "keep", "min_tokens")
MAX_QUESTION_CHARS = 8192
_KEEP_TAG = re.compile(r"</?keep>")


def question_text(
    question: str, instruction: str | None = None, history: Sequence[str] | None = ()
) -> str:
    """Joins history, instruction and question, one per line, into the text that the proxy reads.

    Words of the instruction and of earlier turns count as words of the question, so "who founded
    it?" finds what "it" was. All of it is read after every window, so long histories are costly.

    Raises:
        BadInput: one of them is not text, or the question is empty.
    """
    check_question(question, COMPRESSION_REASON)
    history = () if history is None else history
    is_list = isinstance(history, Sequence) and not isinstance(history, str)
    if not is_list or not all(isinstance(turn, str) for turn in history):
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
        BadInput: it is not a string, or white space alone.
    """
    if not isinstance(question, str):
        raise BadInput(f"the question is of type {type(question).__name__}; give a text")
    if not question.strip():
        raise BadInput(f"the question is empty; {reason}")


def check_question_length(question: str, most: int = MAX_QUESTION_CHARS) -> str:
    """A question with its instruction and history, if it is no longer than commands and services
    read: all of it is read after every window, so 20,000 characters would take minutes a page.

    Raises:
        BadInput: it is longer.
    """
    if len(question) > most:
        raise BadInput(
            f"the question has {len(question):,} characters and {most:,} is the most; put long "
            "text into documents"
        )
    return question


def check_list(given: Any, name: str) -> None:
    """Refuses what is not an ordered list: a single document, a set, or what cannot be iterated.

    Raises:
        BadInput: `given` is none; the message names its type.
    """
    other = isinstance(given, str | bytes | Passage | Mapping | Set)
    if other or not isinstance(given, Iterable):
        raise BadInput(f"{name} is of type {type(given).__name__}; give a list of {name}")


def to_passage(given: Passage | str | Mapping[str, Any], index: int) -> Passage:
    """A caller's document as a passage; its text is taken as it is.

    Raises:
        BadInput: it has no text, or unknown fields; the message names its place in the list.
    """
    if isinstance(given, Passage):
        if not isinstance(given.text, str):
            raise BadInput(f"passage {index} has the text {given.text!r:.80}; give a string")
        _parse_keep({"keep": given.keep, "min_tokens": given.min_tokens}, index)
        return given
    if isinstance(given, str):
        return Passage(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise BadInput(
            f"passage {index} is {type(given).__name__} without a 'text' string; "
            "give a string, or an object with 'text' and maybe 'id', 'title', 'metadata'"
        )
    if unknown := sorted(set(map(str, given)) - set(KNOWN_FIELDS)):
        raise BadInput(
            f"passage {index} has unknown fields {unknown}; known are {list(KNOWN_FIELDS)}"
        )
    for name in ("id", "title"):
        if given.get(name) is not None and not isinstance(given[name], str):
            raise BadInput(
                f"passage {index}: {name!r} is {given[name]!r}; give a string or leave it out"
            )
    if not isinstance(given.get("metadata") or {}, Mapping):
        raise BadInput(f"passage {index}: 'metadata' is {given['metadata']!r}; give an object")
    metadata, (keep, min_tokens) = given.get("metadata") or {}, _parse_keep(given, index)
    return Passage(given["text"], given.get("id"), given.get("title"), metadata, keep, min_tokens)


def check_field_names(names: Any) -> tuple[str, ...]:
    """The names of fields of metadata that are read.

    Raises:
        BadInput: no list of names.
    """
    is_list = isinstance(names, Sequence) and not isinstance(names, str | bytes)
    if not is_list or not all(isinstance(name, str) and name for name in names):
        raise BadInput(
            f"read_metadata is {names!r:.80}; give a list of names, such as ['date', 'speaker']"
        )
    return tuple(names)


def with_headers(passages: Sequence[Passage], names: Sequence[str]) -> tuple[Passage, ...]:
    """The passages with fields of their metadata as the line that is read before the title.

    Args:
        names: of the fields, in the order of the line; a passage without one goes without it.

    Raises:
        BadInput: a field holds neither text nor number.
    """
    return tuple(
        replace(passage, header=_header(passage.metadata, names, i)) if names else passage
        for i, passage in enumerate(passages)
    )


def read_before(passage: Passage) -> str:
    """What is read before a passage's text: its header and its title, each on a line of its own."""
    return "".join(f"{line}\n" for line in (passage.header, passage.title) if line)


def header_warnings(passages: Sequence[Passage], names: Sequence[str]) -> list[str]:
    """A warning for each field that was to be read and that no passage has."""
    return [
        f"no document has {name!r} in its metadata, which read_metadata names"
        for name in names
        if passages and all(name not in passage.metadata for passage in passages)
    ]


def _header(metadata: Mapping[str, Any], names: Sequence[str], index: int) -> str | None:
    """`date: 2023-05-08; speaker: Ann`; None where there is nothing to say."""
    given = {name: metadata[name] for name in names if metadata.get(name) not in (None, "")}
    for name, value in given.items():
        if not isinstance(value, str | Real):
            raise BadInput(
                f"passage {index}: the metadata {name!r} is {type(value).__name__}, and "
                "read_metadata takes texts and numbers"
            )
    return "; ".join(f"{name}: {value}" for name, value in given.items()) or None


def check_keep(passages: Sequence[Passage]) -> None:
    """Refuses spans to keep that are outside their passage's text.

    Raises:
        BadInput: a span that would otherwise be ignored in silence.
    """
    for i, passage in enumerate(passages):
        for start, stop in passage.keep:
            if not 0 <= start <= stop <= len(passage.text):
                raise BadInput(
                    f"passage {i} has {len(passage.text)} characters and keep has "
                    f"[{start}, {stop}]; give 0 <= start <= stop <= {len(passage.text)}"
                )


def _parse_keep(given: Mapping[str, Any], index: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """A document's `keep` and `min_tokens`: spans to keep, and the fewest tokens to keep.

    Raises:
        BadInput: they are not whole numbers.
    """
    try:
        spans = tuple((index_of(a), index_of(b)) for a, b in given.get("keep") or ())
        least = index_of(given.get("min_tokens") or 0)
        if least < 0:
            raise ValueError(f"min_tokens is {least}, below 0")
        return spans, least
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"passage {index}: 'keep' or 'min_tokens' cannot be read ({error}); "
            "give pairs of whole numbers [start, stop], and a whole number"
        ) from error


def parse_keep_tags(passage: Passage, index: int) -> Passage:
    """The passage with the span of every `<keep> … </keep>` added to its `keep`.

    The tags stay in the text, which is returned verbatim, so offsets are the caller's own.

    Raises:
        BadInput: a tag without its partner, or one inside another; the message names its place.
    """
    spans, open_at = [], None
    for tag in _KEEP_TAG.finditer(passage.text):
        closing = tag.group() == "</keep>"
        if closing == (open_at is None):
            raise BadInput(
                f"passage {index}: {tag.group()} at character {tag.start()} has no partner; "
                "close every <keep> with </keep>, and put none inside another"
            )
        if open_at is None:
            open_at = tag.start()
        else:
            spans.append((open_at, tag.end()))
            open_at = None
    if open_at is not None:
        raise BadInput(
            f"passage {index}: <keep> at character {open_at} is never closed; add </keep>"
        )
    return replace(passage, keep=(*passage.keep, *spans)) if spans else passage


def attach_closing_tags(passages: Sequence[Passage], units: Sequence[Unit]) -> list[Unit]:
    """The units with every `</keep>` at the end of the one before it: at the start of the next one
    that one would have to be kept, too."""
    attached = list[Unit]()
    for unit in units:
        text, (start, stop) = passages[unit.passage].text, unit.visible
        before = attached[-1] if attached else None
        if before and before.passage == unit.passage and text.startswith("</keep>", start):
            end = start + len("</keep>")
            body = text[end:stop].lstrip()
            rest = stop - len(body) if body else unit.stop
            attached[-1] = replace(before, stop=rest, visible=(before.visible[0], end))
            unit = replace(unit, start=rest, visible=(rest, stop))
        if unit.visible[0] < unit.visible[1]:
            attached.append(unit)
    return attached


def is_number(given: Any) -> bool:
    """Whether a value is a number; true and false are not."""
    return isinstance(given, Real) and not isinstance(given, bool)


def is_whole(given: Any) -> bool:
    """Whether a value is a whole number; true and false are not."""
    return isinstance(given, Integral) and not isinstance(given, bool)
