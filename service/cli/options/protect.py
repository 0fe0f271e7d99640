"""The options that say what is kept whatever its score, and the patterns they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

_SELECTION = "Selection"

Protect = Annotated[
    list[str] | None,
    typer.Option(
        "--protect",
        metavar="REGEX",
        help="Always keep sentences that match; repeatable.",
        rich_help_panel=_SELECTION,
    ),
]
Numbers = Annotated[
    bool,
    typer.Option(
        "--protect-numbers",
        help="Always keep sentences with a number in digits.",
        rich_help_panel=_SELECTION,
    ),
]
Urls = Annotated[
    bool,
    typer.Option(
        "--protect-urls",
        help="Always keep sentences with a web address.",
        rich_help_panel=_SELECTION,
    ),
]
KeepTags = Annotated[
    bool,
    typer.Option(
        "--keep-tags",
        help="Always keep what stands between `<keep>` and `</keep>`.",
        rich_help_panel=_SELECTION,
    ),
]


def patterns_of(given: Sequence[str] | None, numbers: bool, urls: bool) -> tuple[str, ...]:
    """All that is protected as regular expressions; the presets are those of the service."""
    if not (numbers or urls):
        return tuple(given or ())
    from tamis.service.http.schemas.patterns import NUMBERS, URLS

    return (*(given or ()), *[NUMBERS] * numbers, *[URLS] * urls)
