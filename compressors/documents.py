"""Turns a caller's documents into passages; errors name the document by its place in the list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage

_KNOWN_FIELDS = ("text", "id", "title", "metadata", "keep", "min_tokens")


def check_list(given: Any, name: str) -> None:
    """Refuses what is no ordered list: a single document, a set, or what cannot be iterated.

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
        return given
    if isinstance(given, str):
        return Passage(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise BadInput(
            f"passage {index} is {type(given).__name__} without a 'text' string; "
            "give a string, or an object with 'text' and maybe 'id', 'title', 'metadata'"
        )
    if unknown := sorted(set(map(str, given)) - set(_KNOWN_FIELDS)):
        raise BadInput(
            f"passage {index} has unknown fields {unknown}; known are {list(_KNOWN_FIELDS)}"
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
        spans = tuple((int(a), int(b)) for a, b in given.get("keep") or ())
        return spans, int(given.get("min_tokens") or 0)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"passage {index}: 'keep' or 'min_tokens' cannot be read ({error}); "
            "give pairs of whole numbers [start, stop], and a whole number"
        ) from error
