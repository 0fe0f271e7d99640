"""An option for every rule, made from `RULES`: a command that takes `rules: Rules` is decorated.

Two presets of `--protect` stand beside it, as they do in requests.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field
from functools import cache, wraps
from typing import Annotated, Any

import typer

from tamis.compressors.rules import NUMBERS, RULES, URLS, Rules, RuleSpec, spec_of
from tamis.service.cli.display.text import print_note

PROTECT_NUMBERS = Annotated[
    bool,
    typer.Option(
        "--protect-numbers",
        help="Always keep sentences with a number in digits.",
        rich_help_panel="Selection",
    ),
]
PROTECT_URLS = Annotated[
    bool,
    typer.Option(
        "--protect-urls",
        help="Always keep sentences with a web address.",
        rich_help_panel="Selection",
    ),
]


def takes_rules(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replaces the parameter `rules` of a command by an option for every rule.

    Raises:
        BadInput: when the command runs, a rule that cannot be followed.
    """
    signature = inspect.signature(command, eval_str=True)
    options = list(_parameters())
    names = [option.name for option in options]

    @wraps(command)
    def with_options(*args: Any, **given: Any) -> Any:
        values = {name: given.pop(name) for name in names}
        return command(*args, rules=rules_from_options(values), **given)

    shown: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        shown += options if parameter.name == "rules" else [parameter]
    with_options.__annotations__ = {one.name: one.annotation for one in shown}
    with_options.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return with_options


def rules_from_options(given: dict[str, Any]) -> Rules:
    """The rules that the options add up to, with a warning where one does nothing.

    Raises:
        BadInput: a rule that cannot be followed.
    """
    numbers, urls = given.pop("protect_numbers"), given.pop("protect_urls")
    values = {one.name: _value(spec_of(one), given[_option_name(one)]) for one in RULES}
    values["protect"] = protect_patterns(values["protect"], numbers, urls)
    rules = Rules(**values)
    if rules.unanswerable != "best_effort" and rules.answerable_floor == 0:
        print_note(
            f"tamis: --if-unanswerable {rules.unanswerable} does nothing at a floor of 0; give "
            "one with it, such as --answerable-floor 0.3"
        )
    return rules


def protect_patterns(given: Sequence[str] | None, numbers: bool, urls: bool) -> tuple[str, ...]:
    """All that is protected as regular expressions; the presets are those of the service."""
    return (*(given or ()), *[NUMBERS] * numbers, *[URLS] * urls)


def _parameters() -> Iterator[inspect.Parameter]:
    for one in RULES:
        spec = spec_of(one)
        yield _parameter(_option_name(one), _annotation(one, spec), _default(one, spec))
        if one.name == "protect":
            yield _parameter("protect_numbers", PROTECT_NUMBERS, False)
            yield _parameter("protect_urls", PROTECT_URLS, False)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _option_name(one: Field[Any]) -> str:
    flag = spec_of(one).flag
    return flag.removeprefix("--").replace("-", "_") if flag else one.name


def _annotation(one: Field[Any], spec: RuleSpec) -> Any:
    name = _option_name(one)
    kinds: dict[str, Any] = {
        "flag": bool,
        "count": int,
        "share": float,
        "probability": float,
        "text": str,
        "patterns": list[str],
    }
    plain = _choices(one.name) if spec.kind == "choice" else kinds[spec.kind]
    optional = spec.optional or spec.kind == "patterns"
    text = f"{spec.help[:-1]}; `\\n` is a line break, `\\t` a tab." if spec.escapes else spec.help
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        metavar={"patterns": "REGEX", "text": "TEXT"}.get(spec.kind),
        help=f"{text[:-1]}; repeatable." if spec.kind == "patterns" else text,
        rich_help_panel=spec.panel,
    )
    return Annotated[plain | None if optional else plain, option]


@cache
def _choices(rule: str) -> Any:
    """The choices of a rule as the enumeration that typer shows."""
    (spec,) = (spec_of(one) for one in RULES if one.name == rule)
    return enum.StrEnum(rule, {choice: choice for choice in spec.choices()})


def _default(one: Field[Any], spec: RuleSpec) -> Any:
    if spec.kind == "patterns":
        return None
    if spec.kind == "choice":
        return _choices(one.name)(one.default)
    if spec.escapes:
        return str(one.default).replace("\n", "\\n").replace("\t", "\\t")
    return one.default


def _value(spec: RuleSpec, given: Any) -> Any:
    """What was given on the command line as the rule takes it."""
    if spec.escapes:
        return given.replace("\\n", "\n").replace("\\t", "\t")
    return given.value if isinstance(given, enum.Enum) else given
