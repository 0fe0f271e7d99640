"""Retrieved context between tags, such as `<context>…</context>`, in texts of users and systems."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tamis.probes.errors import BadInput

DOCUMENT = "document"
"""An element inside a tagged one that is a document of its own. Of one with a
`<document_content>`, as in Anthropic's guide to long prompts, only that is its text."""
LEAST_CHARS = 40
"""Shorter stretches stay: a marker is as long, and `between <context> and </context>` in an
instruction is no retrieved text."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_ATTRIBUTES = r"""(?:\s(?:[^<>"']|"[^"<]*"|'[^'<]*')*+)?"""
_CONTENT = re.compile(rf"<document_content{_ATTRIBUTES}>|</document_content\s*>")
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A half-open span of code points that may be shortened, without white space at its ends.

    Attributes:
        min_tokens: that stay of it where they fit; a document may go as a whole.
    """

    start: int
    stop: int
    min_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TaggedText:
    """What may be shortened of a text, and what stays.

    Attributes:
        stretches: in order, disjoint. outside: the text that is in no tagged element.
        fault: why the tags cannot be followed; the text is then left alone.
    """

    outside: str
    stretches: tuple[Stretch, ...] = ()
    fault: str | None = None


@dataclass(slots=True)
class _Element:
    """An element: `[start:stop]` with its tags, `[inner_start:inner_stop]` without."""

    name: str
    start: int
    inner_start: int
    inner_stop: int = -1
    stop: int = -1
    documents: list[_Element] = field(default_factory=list)


class RetrievalTags:
    """Tags between which a text has what was retrieved.

    Args:
        names: of the elements, without angle brackets; upper and lower case differ.

    Raises:
        BadInput: one is no name of an element.
    """

    def __init__(self, names: Sequence[str]) -> None:
        for name in names:
            if not _NAME.fullmatch(name):
                raise BadInput(
                    f"the retrieval tag {name!r:.80} is no name of an element; give one such as "
                    "context, without angle brackets"
                )
        self.names = frozenset(names)
        known = "|".join(re.escape(name) for name in sorted({*names, DOCUMENT}))
        self._tag = re.compile(rf"<({known}){_ATTRIBUTES}>|</({known})\s*>")

    def parse(self, text: str) -> TaggedText:
        """The stretches of a text between the tags; linear in its length.

        Tags that are not closed or stand in one another are a fault, and nothing is shortened.
        """
        elements = list[_Element]()
        fault = self._read_elements(text, elements) if self.names else None
        if fault is not None:
            return TaggedText(text, fault=fault)
        outside, at = list[str](), 0
        for element in elements:
            outside.append(text[at : element.start])
            at = element.stop
        outside.append(text[at:])
        stretches = tuple(s for element in elements for s in _stretches(text, element))
        return TaggedText("\n".join(part for part in outside if part.strip()), stretches)

    def _read_elements(self, text: str, elements: list[_Element]) -> str | None:
        """Adds the tagged elements in order. What is wrong with the tags; None if nothing is."""
        opened = list[_Element]()
        for tag in self._tag.finditer(text):
            name, closed, at = tag[1], tag[2], tag.start()
            if (not opened and (name or closed) not in self.names) or tag[0].endswith("/>"):
                continue
            if name is not None:
                is_document = len(opened) == 1 and name == DOCUMENT != opened[0].name
                if opened and not is_document:
                    return f"<{name}> at character {at:,} is inside <{opened[-1].name}>"
                opened.append(_Element(name, at, tag.end()))
                continue
            if not opened or opened[-1].name != closed:
                return f"</{closed}> at character {at:,} closes nothing"
            element = opened.pop()
            element.inner_stop, element.stop = at, tag.end()
            (opened[0].documents if opened else elements).append(element)
        if opened:
            return f"<{opened[-1].name}> at character {opened[-1].start:,} is never closed"
        return None


def _stretches(text: str, element: _Element) -> Iterator[Stretch]:
    """What may be shortened of an element: each document's text, and what stands between them."""
    spans, at = list[Span](), element.inner_start
    for document in element.documents:
        spans += [(at, document.start), _document_text(text, document)]
        at = document.stop
    spans.append((at, element.inner_stop))
    for start, stop in spans:
        whole = text[start:stop]
        start += len(whole) - len(whole.lstrip())
        stop -= len(whole) - len(whole.rstrip())
        if stop - start >= LEAST_CHARS:
            yield Stretch(start, stop, 0 if element.documents else 1)


def _document_text(text: str, document: _Element) -> Span:
    """Returns what a document's one `<document_content>` has; else all that the document has."""
    tags = list(_CONTENT.finditer(text, document.inner_start, document.inner_stop))
    if [tag[0].startswith("</") for tag in tags] == [False, True]:
        return tags[0].end(), tags[1].start()
    return document.inner_start, document.inner_stop
