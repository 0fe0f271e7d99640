"""What a tool printed, written shorter with nothing left out: each form of writing has an inverse.

text ─ colours ─ JSON, or repeats and prefixes ─► a header that names the forms, and the text

A form is used where it saves tokens and its inverse gives back the text. Colours do not come back:
what is restored is the text without them, which the header says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from tamis.compressors.tools.types import CompressedToolOutput, is_json
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.text.lines import split_at_line_feeds
from tamis.text.readers.outputs.json_parts import json_tokens, json_tree

_COLOUR = re.compile(r"\x1b\[[\d;:]*[mK]")
_HEADER = re.compile(r"\[The whole text, written shorter: ([^\n]*)\.\]\n")
_COLOURS = "colours are removed"
_MOST_CHARS = 1 << 27
"""A restored text has at most so many; a few characters can stand for any number of lines."""


def without_colours(text: str) -> str:
    """The text without the sequences by which terminals colour it and clear the rest of a line."""
    return _COLOUR.sub("", text) if "\x1b" in text else text


class Form(NamedTuple):
    """A way of writing, as the header names it, with its inverse.

    Attributes:
        write: the text in this form, or None where it cannot be written so.
        restore: what `write` was given.
    """

    name: str
    write: Callable[[str], str | None]
    restore: Callable[[str], str]


_REPEATED = re.compile(r"\[… (?:these (\d{1,9}) lines )?repeated (\d{1,9}) times?\]\n")
_MOST_BLOCK = 8
"""Lines of a block that is repeated."""


def count_repeats(text: str) -> str | None:
    """Lines, and blocks of up to 8, that are repeated at once: once, with a line that counts."""
    lines = split_at_line_feeds(text)
    if any(map(_REPEATED.fullmatch, lines)):
        return None
    written: list[str] = []
    at = 0
    while at < len(lines):
        saved, size, times = max(_repeats(lines, at), default=(0, 1, 0))
        if saved <= 0:
            size, times = 1, 0
        written += lines[at : at + size]
        if times:
            written.append(_repeat_line(size, times))
        at += size * (times + 1)
    return "".join(written)


def _repeats(lines: Sequence[str], at: int) -> Iterable[tuple[int, int, int]]:
    """What counting the repeats of the lines from here saves, how many lines, how often."""
    for size in range(1, _MOST_BLOCK + 1):
        if at + size >= len(lines) or lines[at] != lines[at + size]:
            continue
        block, times = lines[at : at + size], 0
        while lines[at + size * (times + 1) : at + size * (times + 2)] == block:
            times += 1
        if times:
            saved = times * sum(map(len, block)) - len(_repeat_line(size, times))
            yield saved, size, times


def _repeat_line(size: int, times: int) -> str:
    these = f"these {size} lines " if size > 1 else ""
    return f"[… {these}repeated {times} time{'s' * (times > 1)}]\n"


def write_repeats(text: str) -> str:
    """The inverse of `count_repeats`."""
    written: list[str] = []
    chars = 0
    for line in split_at_line_feeds(text):
        found = _REPEATED.fullmatch(line)
        block = written[-int(found[1] or 1) :] if found else [line]
        times = int(found[2]) if found else 1
        chars += times * sum(map(len, block))
        if chars > _MOST_CHARS:
            raise BadInput(f"the text has more than {_MOST_CHARS:,} characters; restore less")
        written += block * times
    return "".join(written)


_SHARED = re.compile(r"\[… (\d{1,9}) lines begin with: (.*)\]\n")
_AT_BOUNDARY = re.compile(r".*\W", re.S)
_LEAST_PREFIX = 8


def share_prefixes(text: str) -> str | None:
    """Neighbouring lines that begin alike, with a time or a path: their beginning stands once."""
    lines = split_at_line_feeds(text)
    if any(map(_SHARED.fullmatch, lines)):
        return None
    written: list[str] = []
    at = 0
    while at < len(lines):
        prefix, stop = _prefix(lines, at)
        if stop > at + 1:
            written.append(f"[… {stop - at} lines begin with: {prefix}]\n")
        written += [line[len(prefix) :] for line in lines[at:stop]]
        at = stop
    return "".join(written)


def _prefix(lines: Sequence[str], at: int) -> tuple[str, int]:
    """The beginning that is best shared from a line on, and where the lines with it end."""
    best, most = ("", at + 1), 0
    prefix, stop = lines[at].rstrip("\n"), at + 1
    while stop < len(lines):
        prefix = _common(prefix, lines[stop])
        if len(prefix) < _LEAST_PREFIX:
            break
        while stop < len(lines) and lines[stop].startswith(prefix):
            stop += 1
        saved = (stop - at - 1) * len(prefix) - len("[… 10 lines begin with: ]\n")
        if saved > most:
            best, most = (prefix, stop), saved
    return best


def _common(one: str, other: str) -> str:
    """What two lines share up to the last character that is not of a word."""
    size = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    shared = one[: min(len(one), len(other)) if size is None else size]
    found = _AT_BOUNDARY.match(shared)
    return found.group() if found else ""


def write_prefixes(text: str) -> str:
    """The inverse of `share_prefixes`."""
    written: list[str] = []
    left, prefix = 0, ""
    for line in split_at_line_feeds(text):
        found = None if left else _SHARED.fullmatch(line)
        if found:
            left, prefix = int(found[1]), found[2]
            continue
        written.append(prefix + line if left else line)
        left = max(0, left - 1)
    return "".join(written)


def _layout(indent: str | None, comma: str, colon: str) -> Callable[[Sequence[str]], str]:
    """How a program writes JSON: its tokens with white space."""
    plain = {",": comma, ":": colon}

    def write(tokens: Sequence[str]) -> str:
        if indent is None:
            return "".join(plain.get(token, token) for token in tokens)
        written: list[str] = []
        depth = 0
        for before, token in pairwise(["", *tokens]):
            depth -= token in ("]", "}")
            is_empty = before in ("[", "{") and token in ("]", "}")
            if not is_empty and (before in ("[", "{", ",") or token in ("]", "}")):
                written.append("\n" + indent * depth)
            written.append(plain.get(token, token))
            depth += token in ("[", "{")
        return "".join(written)

    return write


_LAYOUTS = {
    "on one line": _layout(None, ",", ":"),
    "on one line with blanks": _layout(None, ", ", ": "),
    "indented by 2": _layout("  ", ",", ": "),
    "indented by 4": _layout("    ", ",", ": "),
    "indented by a tab": _layout("\t", ",", ": "),
    "indented by 1": _layout(" ", ",", ": "),
    "indented by 3": _layout("   ", ",", ": "),
}
_LEAST_ROWS = 3


def _minified(layout: str) -> Form:
    """JSON without white space, which this layout gives back."""
    written = _LAYOUTS[layout]

    def write(text: str) -> str | None:
        body = text.rstrip("\n")
        if not body.startswith(("{", "[")) or not is_json(body):
            return None
        tokens = json_tokens(body)
        return "".join(tokens) + text[len(body) :] if written(tokens) == body else None

    def restore(text: str) -> str:
        body = text.rstrip("\n")
        return written(json_tokens(body)) + text[len(body) :]

    return Form(f"JSON that was {layout} has no white space", write, restore)


def _table(layout: str, is_lines: bool) -> Form:
    """Objects with the same keys: a line with the keys, and a line of values for each."""
    written = _LAYOUTS[layout]

    def write(text: str) -> str | None:
        body = text.rstrip("\n")
        objects = _objects(body, is_lines)
        if not objects or restored(objects) != body:
            return None
        return "\n".join(_rows(objects)) + text[len(body) :]

    def restored(objects: Sequence[str]) -> str:
        if is_lines:
            return "\n".join(written(json_tokens(one)) for one in objects)
        return written(json_tokens(f"[{','.join(objects)}]"))

    def restore(text: str) -> str:
        body = text.rstrip("\n")
        keys, *rows = [_values(line) for line in body.split("\n")]
        objects = [
            "{" + ",".join(f"{key}:{item}" for key, item in zip(keys, row, strict=True)) + "}"
            for row in rows
        ]
        return restored(objects) + text[len(body) :]

    where = "on a line each" if is_lines else "in an array"
    name = f"the first line has the keys, each further line an object's values: JSON {where}"
    return Form(f"{name}, {layout}", write, restore)


def _objects(body: str, is_lines: bool) -> list[str]:
    """The objects of an array or of lines, without white space; none where they are not alike."""
    if is_lines:
        texts = body.split("\n")
        if len(texts) < _LEAST_ROWS or not all(
            one.startswith("{") and is_json(one) for one in texts
        ):
            return []
        objects = ["".join(json_tokens(one)) for one in texts]
    else:
        if not body.startswith("[") or not is_json(body):
            return []
        objects = _values("".join(json_tokens(body)))
    if len(objects) < _LEAST_ROWS or not all(one.startswith("{") for one in objects):
        return []
    keys = {tuple(node.key for node in json_tree(one, 0, len(one)).children) for one in objects}
    return objects if len(keys) == 1 and () not in keys else []


def _rows(objects: Sequence[str]) -> list[str]:
    first = json_tree(objects[0], 0, len(objects[0])).children
    keys = ",".join(f'"{node.key}"' for node in first)
    return [f"[{keys}]", *(f"[{','.join(_values(one))}]" for one in objects)]


def _values(text: str) -> list[str]:
    """The values of an array or object that has no white space between its tokens."""
    return [text[node.start : node.stop] for node in json_tree(text, 0, len(text)).children]


REPEATS = Form(
    'a line "[… repeated N times]" stands for N more of the line above, or of the lines above',
    count_repeats,
    write_repeats,
)
PREFIXES = Form(
    'below "[… N lines begin with: P]" the next N lines lack P at their front',
    share_prefixes,
    write_prefixes,
)
_JSON = (
    *(_table(layout, is_lines) for layout in _LAYOUTS for is_lines in (False, True)),
    *(_minified(layout) for layout in _LAYOUTS),
)
LINE_FORMS = (REPEATS,)
"""Those that keep each line as it is."""
FORMS = (*_JSON, REPEATS, PREFIXES)
"""All, in the order in which they are tried; of JSON the first that can be."""
_BY_NAME = {form.name: form for form in FORMS}


def write_shorter(text: str, counter: TextTokenizer, forms: Sequence[Form] = FORMS) -> str:
    """The text with a header in the forms that save tokens; as it is where none does.

    Args:
        counter: counts what is saved, the header's tokens included.
        forms: that may be used: all, or those that keep lines as they are.
    """
    plain = without_colours(text)
    used, written = [_COLOURS] if plain != text else [], plain
    tokens = counter.count(plain)
    for form in forms:
        if form in _JSON and any(_BY_NAME.get(name) in _JSON for name in used):
            continue
        shorter = form.write(written)
        if shorter is None or len(shorter) >= len(written) or form.restore(shorter) != written:
            continue
        if (count := counter.count(shorter)) < tokens:
            used, written, tokens = [*used, form.name], shorter, count
    if not used:
        return text
    written = f"[The whole text, written shorter: {'; '.join(used)}.]\n{written}"
    is_shorter = counter.count(written) < counter.count(text)
    return written if is_shorter and restore(written) == plain else text


def write_whole(found: CompressedToolOutput, counter: TextTokenizer) -> CompressedToolOutput:
    """An output that is whole, its text in all forms that save tokens."""
    written = write_shorter(found.text, counter)
    return replace(found, text=written, tokens_out=counter.count(written))


def write_within(text: str, counter: TextTokenizer, tokens: int, limit: int) -> tuple[str, int]:
    """`write_shorter` in `LINE_FORMS` and its tokens; the text as it is where it does not fit.

    Args:
        tokens: of the text. limit: the most that it may have.
    """
    # lines that differ stay, so where they are most of the text, counting repeats is of no use
    least = sum(map(len, set(split_at_line_feeds(text))))
    if "\x1b" in text or least * tokens <= 2 * limit * len(text):
        written = write_shorter(text, counter, LINE_FORMS)
        if written != text and (count := counter.count(written)) <= limit:
            return written, count
    return text, tokens


def restore(text: str) -> str:
    """What `write_shorter` was given, without its colours.

    Raises:
        BadInput: a header that it did not write, or more than 134 million characters.
    """
    header = _HEADER.match(text)
    if header is None:
        return text
    written = text[header.end() :]
    for name in reversed(header[1].split("; ")):
        if name == _COLOURS:
            continue
        if name not in _BY_NAME:
            raise BadInput(f"the header names {name!r:.80}, which is no form of writing")
        written = _BY_NAME[name].restore(written)
    return written
