"""Bytes as text in an encoding, with errors that name the byte and the way out."""

from __future__ import annotations

import codecs
import re

from tamis.probes.errors import BadInput

STDIN = "-"
_DECLARED = re.compile(
    rb"""charset\s*=\s*(?:["']\s*)?([\w.:-]+)|encoding\s*=\s*["']([\w.:-]+)""", re.I
)
_DECLARED_WITHIN = 4096


def decode_text(data: bytes, name: str, encoding: str) -> str:
    """Bytes as text.

    Raises:
        BadInput: they are not in the encoding, with the offset; or the encoding is unknown.
    """
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte = data[error.start : error.start + 1].hex()
        raise BadInput(
            f"{display_name(name)} is not {encoding}: byte 0x{byte} at offset {error.start} cannot "
            "be read; name its encoding, such as --encoding latin-1"
        ) from error
    except UnicodeError as error:  # of codecs that do not decode text: there is no offset
        raise BadInput(
            f"{display_name(name)} cannot be read as {encoding} ({error}); name its encoding, "
            "such as utf-8"
        ) from error
    except (LookupError, ValueError) as error:
        raise BadInput(
            f"there is no encoding {encoding!r}; give utf-8, latin-1 or another that Python knows"
        ) from error


def decode_html(data: bytes, name: str, encoding: str) -> str:
    """A page as text; one that is not UTF-8 in the encoding that it names itself.

    Raises:
        BadInput: as `decode_text`.
    """
    try:
        return decode_text(data, name, encoding)
    except BadInput:
        declared = _declared_encoding(data)
        if encoding != "utf-8" or declared is None:
            raise
        return decode_text(data, name, declared)


def _declared_encoding(data: bytes) -> str | None:
    """The encoding in a page's `meta`; latin-1 is windows-1252 there, as the HTML standard says."""
    found = _DECLARED.search(data[:_DECLARED_WITHIN])
    if found is None:
        return None
    given = (found[1] or found[2]).decode("ascii", "replace")
    try:
        known = codecs.lookup(given).name
    except LookupError:
        return None
    return "cp1252" if known in ("iso8859-1", "ascii") else known


def display_name(name: str) -> str:
    """The name of an input for a message."""
    return "standard input" if name == STDIN else name
