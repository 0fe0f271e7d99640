"""Options, declared once: a field of a dataclass with its help and its bounds, made by `option`.

Every door makes its own of them: fields of pydantic (`service/api/option_fields.py`), options of
the command line (`service/cli/options/typer_options.py`) and of its quick commands, flags and
variables of the service. Methods, and whatever else subclasses `Configured`, have theirs so, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, dataclass_transform, get_args, get_origin, get_type_hints

from tamis.probes.errors import BadInput
from tamis.text.inputs import is_number, is_whole

_DESCRIPTIONS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple of regular expressions",
    NoneType: "null",
    Path: "a path",
    Mapping: "a mapping",
}


def no_hint(value: Any) -> str:
    """Nothing more to say of a value that is refused."""
    return ""


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one option.

    Attributes:
        help: one line. panel: of the command line's help; None for its first.
        ge, gt, le, lt: the bounds of a number, as in pydantic.
        values: what to give, in words; None where type and bounds say it.
        choices: what a text may be, read when they are needed; a `Literal` has its own.
        plain_choices: those of them that are known before others are read.
        flag, short, metavar: of the command line; a flag that is not the name with dashes.
        is_argument: whether the command line takes it without a flag.
        variable: of the environment, which stands in for the flag.
        escapes: whether the command line reads `\\n` and `\\t` in it.
        presets: values of a list that have a flag of their own, by its ending: value and help.
        most: of a whole number in a request.
        in_http, in_adapters: whether requests and adapters take it in this plain form.
        takes: the type of what may be given, where `setup` makes something else of it; None where
            that is the field's own.
        paper: of an option of a method: what its paper has, in words, where that is another value
            than the default.
        is_secret: whether no file may hold it. hidden: whether help leaves it out.
        selects: whether it decides which units are kept and in what order. Where the whole context
            is returned in place of an error, such a rule is at its default; the others, which say
            what a unit is and how text is written, are as the caller gave them.
        name, default: of the field. kind: its type, None aside.
        optional: whether it may be None.
    """

    help: str
    panel: str | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    values: str | None = None
    choices: Callable[[], tuple[str, ...]] | None = None
    plain_choices: tuple[str, ...] = ()
    flag: str | None = None
    short: str | None = None
    metavar: str | None = None
    variable: str | None = None
    is_argument: bool = False
    escapes: bool = False
    presets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    most: int = 2**31
    in_http: bool = True
    in_adapters: bool = True
    takes: Any = None
    selects: bool = False
    paper: str | None = None
    is_secret: bool = False
    hidden: bool = False
    name: str = ""
    kind: Any = str
    optional: bool = False
    default: Any = None

    def of(self, name: str, annotation: Any, default: Any) -> Option:
        """This option as that of a field: its name, type and default."""
        annotation = annotation if self.takes is None else self.takes
        plain = [one for one in get_args(annotation) if one is not NoneType]
        optional = NoneType in get_args(annotation)
        kind = Union[tuple(plain)] if optional else annotation  # noqa: UP007
        return replace(self, name=name, kind=kind, optional=optional, default=default)

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds that it has."""
        named = {"ge": self.ge, "gt": self.gt, "le": self.le, "lt": self.lt}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def parameter(self) -> str:
        """What a command calls it: the name of its flag, which no other option of it has."""
        return (self.flag or self.name).removeprefix("--").replace("-", "_")

    @property
    def flags(self) -> list[str]:
        """Its flags on the command line, the long one first."""
        return [f"--{self.parameter.replace('_', '-')}", *([self.short] if self.short else [])]

    def all_choices(self) -> tuple[str, ...]:
        """What a text may be; empty where it is free."""
        if self.choices is not None:
            return self.choices()
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def names_something(self, value: Any) -> bool:
        """Whether a value is free text, which may name a file or an address of this machine."""
        chosen = [inner for one in get_args(self.kind) for inner in get_args(one)]
        return isinstance(value, str) and value not in (self.default, *self.all_choices(), *chosen)

    def check(self, value: Any, hint: Callable[[Any], str] = no_hint, owner: str = "") -> None:
        """Refuses a value of another kind, or beyond the bounds.

        Args:
            hint: makes what the message ends with.
            owner: what the message begins with: whose option it is.

        Raises:
            BadInput: with what to give instead.
        """
        if not self._accepts(value):
            raise BadInput(
                f"{owner}{self.name} is {value!r:.200}; give {self.describe_values()}{hint(value)}"
            )

    def _accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if type(value) is self.kind and self.choices is None:  # most values, in little time
            return self._is_within(value)
        if get_origin(self.kind) is tuple:
            inner = get_args(self.kind)[0]
            return isinstance(value, tuple | list) and all(fits_kind(one, inner) for one in value)
        # these first: to list the methods of ordering, files may be imported
        if isinstance(value, str) and value in self.plain_choices:
            return True
        if self.choices is not None:
            return isinstance(value, str) and value in self.choices()
        return fits_kind(value, self.kind) and self._is_within(value)

    def _is_within(self, value: Any) -> bool:
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def describe_values(self) -> str:
        """What to give, in words."""
        if self.values is not None:
            return self.values
        if choices := self.all_choices():
            words = f"one of {', '.join(map(str, choices))}"
        else:
            words = " or ".join(_describe_kind(self.kind))
            words += f" of at least {self.ge}" if self.ge is not None else ""
            words += f" above {self.gt}" if self.gt is not None else ""
            words += f" and at most {self.le}" if self.le is not None else ""
        return f"{words}, or None" if self.optional else words


def option(default: Any, text: str, panel: str | None = None, **more: Any) -> Any:
    """A field of a dataclass with what is known of it as an option: see `Option`."""
    return field(default=default, metadata={"option": Option(text, panel, **more)})


@cache
def options_of(holder: Any) -> tuple[Option, ...]:
    """The options among the fields of a dataclass, in their order."""
    try:
        hints = get_type_hints(holder)
    except NameError:  # a name that exists for the type checker alone
        hints = {}
    return tuple(
        one.metadata["option"].of(one.name, hints.get(one.name, Any), one.default)
        for one in fields(holder)
        if "option" in one.metadata
    )


def check_fields(holder: Any) -> None:
    """Refuses a value that its option does not take.

    Raises:
        BadInput: with what to give instead.
    """
    kind: Any = type(holder)
    for one in options_of(kind):
        one.check(getattr(holder, one.name))


@dataclass_transform(eq_default=False)
class Configured:
    """A class that is built with models and options, which are its fields.

    Each subclass is made a dataclass. A field that `option` makes is one of its options; the others
    are the models, and whatever else it is built with. What follows from them is set in `setup`.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} has a constructor; declare its options as fields, such as "
                'top_k: int = option(40, "what it is"), and set what follows in setup(self)'
            )
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        check_fields(self)
        self.setup()

    def setup(self) -> None:
        """Called when the fields are set and the options were checked."""


def option_names(kind: Any) -> list[str]:
    """The names of a class's options, in order."""
    return [one.name for one in options_of(kind)]


def check_options_of(kind: Any, name: str, given: Mapping[str, Any]) -> None:
    """Refuses what a class has no option for, before it is built and any model is loaded.

    Args:
        name: what messages call it.

    Raises:
        BadInput: an option that it does not have, or a value that the option does not take.
    """
    known = {one.name: one for one in options_of(kind)}
    if unknown := sorted(set(given) - set(known)):
        raise BadInput(f"{name} has no option {unknown}; its options are {sorted(known) or 'none'}")
    for option, value in given.items():
        known[option].check(value, owner=f"{name}: ")


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


def _describe_kind(kind: Any) -> list[str]:
    """The values that an annotation allows, in words, each once."""
    if get_origin(kind) in (Union, UnionType):
        return list(dict.fromkeys(word for one in get_args(kind) for word in _describe_kind(one)))
    if get_origin(kind) is Literal:
        return [repr(one) for one in get_args(kind)]
    plain = get_origin(kind) or kind
    return [_DESCRIPTIONS.get(plain) or f"a {getattr(plain, '__name__', plain)}"]
