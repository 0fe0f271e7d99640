"""Configuration files as plain text: YAML, TOML, INI, properties and environment files.

Prose has colons, too. A text is treated as configuration only if every line at its margin is a key,
a section, an item or a comment, and if it has a feature that notes lack: keys nested in keys, a
section, `key=value`, or keys in lower case none of which occurs twice.
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
    """Marks of each section or key with its content; none if the text is not configuration.

    Long ones are cut at the next level of indentation, like code.
    """
    first = text.lstrip()[:200].split("\n", 1)[0].rstrip()  # avoids splitting prose into lines
    if not first or not (_NEUTRAL.match(first) or _is_margin_line(first)):
        return []
    lines = lines_of(text)
    rows = [row for row in lines.rows if row]
    if len(rows) < 3 or not _is_config(rows):
        return []
    listing = Listing(lines, 0, len(lines.rows), _has_children)
    return [
        (lines.starts[line], "code") for line in listing.cut_lines_from(_outermost_starts(listing))
    ]


def _has_children(row: str, has_body: bool) -> bool:
    """Whether a key has others nested in it, and so stands alone."""
    return has_body


def _outermost_starts(listing: Listing) -> list[int]:
    """The starts of sections, or else of keys, at the margin after the first line."""
    statements = listing.margin_statements()
    sections = {i for i in (0, *statements) if _begins_section(listing, i)}
    if sections:
        first = min(sections)
        return [i for i in statements if i in sections or i < first]
    return [i for i in statements if not _ITEM.match(listing.texts[i])] or statements


def _begins_section(listing: Listing, i: int) -> bool:
    """Whether a section begins on a line, or after the comment that begins there."""
    while not _SECTION.match(listing.texts[i]):
        i += 1
        if i == len(listing.texts) or not listing.attached[i]:
            return False
    return True


def _is_config(rows: Sequence[str]) -> bool:
    margin_rows: list[str] = []
    for row in rows:
        if row[0].isspace() or _NEUTRAL.match(row):
            continue
        if not _is_margin_line(row):
            return False
        margin_rows.append(row)
    if not margin_rows:
        return False
    pairs = sum(_PAIR.match(row) is not None for row in margin_rows)
    if any(_SECTION.match(row) for row in margin_rows):
        return pairs > 1 and not any(_ITEM.match(row) for row in margin_rows)
    return (pairs > 2 and pairs == len(margin_rows)) or _is_yaml(rows, margin_rows)


def _is_margin_line(row: str) -> bool:
    return any(form.match(row) for form in (_KEY, _PAIR, _SECTION, _ITEM))


def _is_yaml(rows: Sequence[str], margin_rows: Sequence[str]) -> bool:
    keys = [key for row in rows if (key := _KEY.match(row.lstrip()))]
    margin_keys = [key for row in margin_rows if (key := _KEY.match(row))]
    if len(keys) < 3 or 2 * len(keys) < sum(not _ITEM.match(row.lstrip()) for row in rows):
        return False
    names = [key[1] for key in margin_keys if key[0][0] != "-"]
    if len({*names}) < len(names) and "---" not in rows:
        return False
    if sum(_is_nested_key(*pair) for pair in pairwise(rows)) > (0 if names else 1):
        return True
    short = sum(not key[2] or _is_short(key[2]) for key in margin_keys)
    lower = names and all(_IDENTIFIER.match(name) for name in names)
    return bool(lower) and 5 * short >= 4 * len(margin_keys)


def _is_nested_key(above: str, row: str) -> bool:
    """Whether a key is nested in the one above, which has no value or is an item's first key."""
    key, inner = _KEY.match(above.lstrip()), row.lstrip()
    deeper = len(row) - len(inner) > len(above) - len(above.lstrip())
    return deeper and bool(key and (not key[2] or key[0][0] == "-") and _KEY.match(inner))


def _is_short(value: str) -> bool:
    return len(value) <= _VALUE_CHARS and value[-1] not in ".!?"
