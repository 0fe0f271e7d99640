"""Options as pydantic fields: what requests and adapters take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_origin

from pydantic import Field

from tamis.compressors.options import Option
from tamis.compressors.rules import Rules, rules_in


def option_fields(
    options: Iterable[Option], text: Any = str, *, bounded: bool = True, described: bool = True
) -> dict[str, Any]:
    """Field definitions for `pydantic.create_model`: annotation, default and help of each option.

    Args:
        text: the annotation of options that are texts; a service bounds their length.
        bounded: whether pydantic checks the bounds, and not only the dataclass that they make.
        described: whether the help is each field's description.
    """
    return {
        one.name: (
            _annotation(one, text, bounded),
            Field(one.default, description=one.help if described else None),
        )
        for one in options
    }


def request_fields(rules: Rules) -> dict[str, Any]:
    """Rules as the fields of `POST /v1/compress`; those at their default are left out."""
    values = [(one, getattr(rules, one.name)) for one in rules_in("http")]
    sent = {one.name: value for one, value in values if value != one.default}
    return sent | ({"protect": {"regex": list(rules.protect)}} if rules.protect else {})


def _annotation(one: Option, text: Any, bounded: bool) -> Any:
    plain = one.kind
    if choices := one.all_choices():
        plain = Literal[choices]
    elif plain is str:
        plain = text
    elif get_origin(plain) is tuple:
        plain = Annotated[tuple[text, ...], Field(strict=False)]  # JSON has lists alone
    elif bounded and one.bounds:
        most = {"le": one.most} if plain is int else {}
        plain = Annotated[plain, Field(**most | one.bounds)]
    return plain | None if one.optional else plain
