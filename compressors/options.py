"""The options of a method and their types, read from the annotations of its class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tamis.compressors.inputs import is_number, is_whole
from tamis.probes.errors import BadInput

_MODEL_PARAMETERS = {"reader", "encoder", "parts"}
_DESCRIPTIONS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
}


@cache
def option_kinds(method: type[Any]) -> Mapping[str, Any]:
    """The options of a method's class, each with its annotation; `Any` where that is not known."""
    names = [name for name in inspect.signature(method).parameters if name not in _MODEL_PARAMETERS]
    try:
        hints = get_type_hints(method.__init__)
    except (NameError, TypeError):  # a name that exists for the type checker alone
        hints = {}
    return {name: hints.get(name, Any) for name in names}


def fits_kind(value: Any, kind: Any) -> bool:
    """Whether a value has the annotated type: a bool is not a number, an int is a float, too."""
    if get_origin(kind) in (Union, UnionType):
        return any(fits_kind(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(kind))
    if kind in (int, float):
        return is_whole(value) if kind is int else is_number(value)
    try:
        return kind is Any or isinstance(value, get_origin(kind) or kind)
    except TypeError:  # a protocol: it cannot be checked
        return True


def check_values(name: str, method: Any, options: Mapping[str, Any]) -> None:
    """Refuses what a class has no option for, before any model is loaded.

    Args:
        name: what messages call it. method: the class.

    Raises:
        BadInput: an option that it does not have, or a value of another kind than the option takes.
    """
    accepted = option_kinds(method)
    if unknown := sorted(set(options) - set(accepted)):
        raise BadInput(
            f"{name} has no option {unknown}; its options are {sorted(accepted) or 'none'}"
        )
    for option, value in options.items():
        if not fits_kind(value, accepted[option]):
            kinds = " or ".join(describe_kind(accepted[option]))
            raise BadInput(f"{name}: {option} is {value!r:.80}; give {kinds}")


def describe_kind(kind: Any) -> list[str]:
    """The values that an annotation allows, in words, each once."""
    if get_origin(kind) in (Union, UnionType):
        return list(dict.fromkeys(word for one in get_args(kind) for word in describe_kind(one)))
    if get_origin(kind) is Literal:
        return [repr(one) for one in get_args(kind)]
    if kind in _DESCRIPTIONS:
        return [_DESCRIPTIONS[kind]]
    name = getattr(get_origin(kind) or kind, "__name__", str(kind))
    return [f"a {name}"]
