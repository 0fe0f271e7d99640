"""Settings as plain text: YAML, TOML, INI, properties and environment files.

Prose has colons too. A text is read as settings only if every line at its margin is a key, a
section, an item or a comment, and if it has what lists of notes have not: keys below keys, a
section, `key=value`, or keys in lower case of which none comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tamis.probes.segmentation.code import Listing
from tamis.probes.segmentation.lines import Mark, lines_of

_NAME = r"(?:\"[^\"]{1,80}\"|'[^']{1,80}'|[\w$@/.<][\w$@/.<>\-\[\]]{0,79})"
_KEY = re.compile(rf"(?:- +)*({_NAME}) ?:(?: +(\S.*))?$")
_PAIR = re.compile(r"(?:export +)?[\w.\-/$@\"]{1,80} *=(?![=>]).*(?<![;{])$")
_SECTION = re.compile(r"\[{1,2}[^\[\]]{1,80}\]{1,2}(?:\s*[#;].*)?$")
_NEUTRAL = re.compile(r"[#;!]|---|\.\.\.$|%YAML|[\])}]+,?$")
_ITEM = re.compile(r"- +\S|-$")
_IDENTIFIER = re.compile(r"[a-z_][\w.\-/]*$")
_VALUE_CHARS = 80  # a longer value, or one that ends in a full stop, may be a sentence


def config_marks(text: str) -> list[Mark]:
    """A block for each section or key with what it holds, or none if the text is no settings file.

    Long ones are cut at the next level of indentation, as code is.
    """
    first = text.lstrip()[:200].split("\n", 1)[0].rstrip()  # spares prose being read by lines
    if not first or not (_NEUTRAL.match(first) or _is_margin_line(first)):
        return []
    lines = lines_of(text)
    rows = [row for row in lines.rows if row]
    if len(rows) < 3 or not _is_config(rows):
        return []
    listing = Listing(lines, 0, len(lines.rows), _has_children)
    return [(lines.starts[line], "code") for line in listing.cut_lines_from(_outermost_starts(listing))]


def _has_children(said: str, holds: bool) -> bool:
    """A key with others below it stands alone."""
    return holds


def _outermost_starts(listing: Listing) -> list[int]:
    """The sections, or else the keys, at the margin after the first line."""
    heads = listing.margin_statements()
    sections = {i for i in (0, *heads) if _begins_section(listing, i)}
    if sections:
        first = min(sections)
        return [i for i in heads if i in sections or i < first]
    return [i for i in heads if not _ITEM.match(listing.texts[i])] or heads


def _begins_section(listing: Listing, i: int) -> bool:
    """Whether a section begins on a line, or behind the comment that begins there."""
    while not _SECTION.match(listing.texts[i]):
        i += 1
        if i == len(listing.texts) or not listing.attached[i]:
            return False
    return True


def _is_config(rows: Sequence[str]) -> bool:
    tops: list[str] = []
    for row in rows:
        if row[0].isspace() or _NEUTRAL.match(row):
            continue
        if not _is_margin_line(row):
            return False
        tops.append(row)
    if not tops:
        return False
    pairs = sum(_PAIR.match(row) is not None for row in tops)
    if any(_SECTION.match(row) for row in tops):
        return pairs > 1 and not any(_ITEM.match(row) for row in tops)
    return (pairs > 2 and pairs == len(tops)) or _is_yaml(rows, tops)


def _is_margin_line(row: str) -> bool:
    return any(form.match(row) for form in (_KEY, _PAIR, _SECTION, _ITEM))


def _is_yaml(rows: Sequence[str], tops: Sequence[str]) -> bool:
    keys = [key for row in rows if (key := _KEY.match(row.lstrip()))]
    top = [key for row in tops if (key := _KEY.match(row))]
    if len(keys) < 3 or 2 * len(keys) < sum(not _ITEM.match(row.lstrip()) for row in rows):
        return False
    names = [key[1] for key in top if key[0][0] != "-"]
    if len({*names}) < len(names) and "---" not in rows:
        return False
    if sum(_is_nested_key(*pair) for pair in pairwise(rows)) > (0 if names else 1):
        return True
    plain = sum(not key[2] or _is_short(key[2]) for key in top)
    lower = names and all(_IDENTIFIER.match(name) for name in names)
    return bool(lower) and 5 * plain >= 4 * len(top)


def _is_nested_key(above: str, row: str) -> bool:
    """Whether a key is indented below another that has no value, or below an item's first key."""
    key, inner = _KEY.match(above.lstrip()), row.lstrip()
    deeper = len(row) - len(inner) > len(above) - len(above.lstrip())
    return deeper and bool(key and (not key[2] or key[0][0] == "-") and _KEY.match(inner))


def _is_short(value: str) -> bool:
    return len(value) <= _VALUE_CHARS and value[-1] not in ".!?"
