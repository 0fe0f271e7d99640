"""Options as typer shows them: those of a dataclass, and those of a command's own parameters."""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_origin

import typer

from tamis.compressors.options import Option, options_of
from tamis.compressors.rules import Budget, budget_of
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors

Command = Callable[..., Any]


class _Choice(enum.StrEnum):
    """What an option that is a text may be."""


def takes_options(
    shared: Mapping[str, Option] = MappingProxyType({}), **own: Option
) -> Callable[[Command], Command]:
    """Makes options of a command's parameters, and reports its errors as `report_errors` does.

    A parameter whose type is a dataclass of options, such as `rules: Rules`, is replaced by an
    option for each of them; one that is named here has its flag, type and default from the command.
    Others are typer's already.

    Args:
        shared: options by the names of parameters, which the command may have.
        own: those of this command, which go before.
    """

    known = {**shared, **own}

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        holders: dict[str, Any] = {}
        shown: list[inspect.Parameter] = []
        for given in signature.parameters.values():
            if given.name in known:
                one = known[given.name].of(given.name, given.annotation, given.default)
                shown.append(typer_parameter(one, given.name))
            elif is_dataclass(given.annotation):
                holders[given.name] = given.annotation
                shown += [
                    made for one in options_of(holders[given.name]) for made in _parameters(one)
                ]
            else:
                shown.append(given)

        @wraps(command)
        @report_errors()
        def with_options(**given: Any) -> Any:
            values = {
                name: value.value if isinstance(value, _Choice) else value
                for name, value in given.items()
            }
            made = {name: _build_holder(holder, values) for name, holder in holders.items()}
            return command(**values, **made)

        return with_parameters(with_options, shown)

    return decorate


def with_parameters(command: Command, shown: list[inspect.Parameter]) -> Command:
    """The command, with these parameters for typer."""
    named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in shown]
    command.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in named} | {"return": None}
    return command


def typer_parameter(one: Option, name: str | None = None) -> inspect.Parameter:
    """An option as a parameter that typer understands.

    Args:
        name: of a command's own parameter, whose bounds typer checks; None for the field of a
            dataclass, which checks them itself.
    """
    kind, default, choices = one.kind, one.default, one.all_choices()
    text = f"{one.help[:-1]}; `\\n` is a line break, `\\t` a tab." if one.escapes else one.help
    if choices and one.metavar is None:
        kind = _enumeration(one.name, choices)
        default = kind(default) if default in choices else default
    elif choices:
        kind = str
    elif get_origin(kind) is tuple:
        kind, default, text = list[str], None, f"{text[:-1]}; repeatable."
    elif one.escapes:
        default = default.replace("\n", "\\n").replace("\t", "\\t")
    flag, *short = one.flags
    flag = f"{flag}/--no-{flag[2:]}" if kind is bool and default is not False else flag
    kind = kind | None if default is None else kind
    if one.is_argument:
        shown: Any = typer.Argument(help=text, metavar=one.metavar, show_default=False)
        return _parameter(name or one.name, Annotated[kind, shown], default)
    shown = typer.Option(
        flag,
        *short,
        help=text,
        metavar=one.metavar,
        envvar=one.variable,
        hidden=one.hidden,
        rich_help_panel=one.panel,
        min=one.ge if name else None,
        max=one.le if name else None,
        show_default=default is not None and default is not False and default != [],
    )
    return _parameter(name or one.parameter, Annotated[kind, shown], default)


def _parameters(one: Option) -> Iterator[inspect.Parameter]:
    """The parameter of an option, and those of its presets."""
    yield typer_parameter(one)
    for ending, (_, text) in one.presets.items():
        flag = f"{one.flags[0]}-{ending}"
        yield typer_parameter(Option(text, one.panel, flag=flag).of("", bool, False))


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


@cache
def _enumeration(name: str, choices: tuple[str, ...]) -> Any:
    """The choices of an option as the enumeration that typer shows."""
    return _Choice(name, {choice: choice for choice in choices})  # type: ignore[call-arg]


def _build_holder(holder: Any, given: dict[str, Any]) -> Any:
    """What the options of a dataclass add up to; they are taken out of what was given.

    Raises:
        BadInput: they cannot be followed.
    """
    values = {one.name: _field_value(one, given) for one in options_of(holder)}
    if holder is Budget:
        return budget_of(**values, display_name=lambda name: f"--{name.replace('_', '-')}")
    return holder(**values)


def _field_value(one: Option, given: dict[str, Any]) -> Any:
    """What was given on the command line, as the field takes it."""
    value = given.pop(one.parameter)
    if one.escapes:
        return value.replace("\\n", "\n").replace("\\t", "\t")
    if get_origin(one.kind) is not tuple:
        return value
    presets = [(f"{one.parameter}_{ending}", preset) for ending, (preset, _) in one.presets.items()]
    return (*(value or ()), *(preset for name, preset in presets if given.pop(name)))


INDEX = {
    "index": Option("The folder of the index.", metavar="INDEX", is_argument=True),
    "corpus": Option(
        "JSON Lines and Parquet (.gz, .zst), text, Markdown, HTML, PDF and DOCX files, or folders.",
        metavar="CORPUS",
        is_argument=True,
    ),
    "id_field": Option("Rows' field of ids; id, _id, doc_id, docid if none is named."),
    "text_field": Option("Rows' field of text; text, contents, content, body if none is."),
    "title_field": Option("Rows' field of titles."),
    "proxy": Option("The model of the keys: its name, or a folder."),
    "where": Option(
        "Only documents whose metadata meet it: key=a,b key!=a key>=1; repeatable.",
        metavar="CONDITION",
    ),
    "search": Option(
        "How keys are searched: exact or graph; auto takes what the index has.",
        flag="--search",
    ),
    "questions": Option("Questions that the graph follows, a line each. Default: general ones."),
    "by": Option("Search by these alone: bm25, keys, vectors, with commas."),
    "json": Option("Print JSON."),
}
"""What the commands of `tamis index` and `tamis ask-context` share, by their parameters."""
STRUCTURE = Option(
    "What a search finds keys by: graph, or exact for every key; auto is exact below "
    "400,000 keys and graph above."
)
"""`--search` where an index is made."""


def parse_legs(by: str | None) -> list[str] | None:
    """The ways of search in `--by`; None if it was not given."""
    return None if by is None else [word.strip() for word in by.split(",") if word.strip()]


def gate_options(gate: str, cascade: bool) -> dict[str, Any]:
    """The method's options of `--gate` and `--cascade`, where they are not the default."""
    given: dict[str, Any] = {} if cascade else {"cascade": False}
    if gate != "auto":
        given["gate"] = {"on": True, "off": False}.get(gate, Path(gate))
    return given


def parse_options(
    given: Sequence[str] | None, example: str = "form=token", **flags: Any
) -> dict[str, Any]:
    """The options of a method: of flags of their own, and `NAME=VALUE` of `--option` each.

    Args:
        given: the values of `--option`; a value is JSON, else text.
        example: shown where one cannot be read.
        flags: options by name; None where the flag was not given.

    Raises:
        BadInput: one has no name or no value, or is given twice.
    """
    found = {name: value for name, value in flags.items() if value is not None}
    for word in given or ():
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise BadInput(f"--option is {word!r}; give NAME=VALUE, such as {example}")
        if name in found:
            raise BadInput(f"the option {name} is given twice; give it once")
        found[name] = parse_value(value)
    return found


def parse_value(text: str) -> Any:
    """The value of an option: JSON, else text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_fuse(given: str) -> Any:
    """The value of `--fuse`: `rrf`, `fitted`, or a weight from 0 to 1.

    Raises:
        BadInput: any other value.
    """
    from tamis.compressors.features.rank_fusion import check_fuse

    if given in ("rrf", "fitted"):
        return given
    try:
        weight = float(given)
    except ValueError as error:
        raise BadInput(
            f"--fuse is {given!r}; give rrf, fitted, or the method's weight from 0 to 1"
        ) from error
    check_fuse(weight)
    return weight
