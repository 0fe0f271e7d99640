"""One declaration of an option: every door makes its own of it, and none is left over."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import typer
import typer.main
from click.testing import CliRunner
from pydantic import ValidationError, create_model

import tamis
from tamis.compressors.options import check_fields, option, options_of
from tamis.compressors.rules import RULES, Budget
from tamis.probes.errors import BadInput
from tamis.service.api.option_fields import option_fields
from tamis.service.cli.app import build_app
from tamis.service.cli.commands.batch import BATCH, MERGE
from tamis.service.cli.options.compress_options import SHARED
from tamis.service.cli.options.typer_options import INDEX, takes_options
from tamis.service.cli.quick import parse_quickly


@dataclass(frozen=True)
class Sailing:
    """Options of every kind."""

    knots: int = option(3, "How fast.", ge=1, le=9)
    drift: float | None = option(None, "How far off.", gt=0, values="a share above 0, or None")
    flag: str = option("red\n", "What is flown.", escapes=True, flag="--ensign")
    wind: Literal["north", "south"] = option("north", "From where.")
    calls: tuple[str, ...] = option((), "Where to stop.", presets={"home": ("Malo", "At home.")})
    night: bool = option(False, "At night, too.")

    def __post_init__(self) -> None:
        check_fields(self)


GIVEN = {"knots": 4, "drift": 0.5, "wind": "south", "night": True}
WORDS = ["--knots", "4", "--drift", "0.5", "--wind", "south", "--night"]


@takes_options()
def sail(*, sailing: Sailing) -> None:
    typer.echo(repr(sailing))


def run_sail(*words: str) -> Any:
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(sail)
    return CliRunner().invoke(typer.main.get_command(command), words)


def test_a_command_line_gives_what_the_dataclass_takes():
    done = run_sail(*WORDS, "--ensign", "blue\\n", "--calls", "Brest", "--calls-home")
    wanted = Sailing(**GIVEN, flag="blue\n", calls=("Brest", "Malo"))
    assert done.output == f"{wanted!r}\n"
    assert run_sail().output == f"{Sailing()!r}\n"


def test_a_quick_command_and_pydantic_take_the_same():
    plain = [one for one in options_of(Sailing) if one.name in GIVEN]
    assert parse_quickly(WORDS, plain) == GIVEN
    made: Any = create_model("Made", **option_fields(options_of(Sailing)))
    read = made(**GIVEN)
    assert Sailing(**dict(read)) == Sailing(**GIVEN)
    with pytest.raises(ValidationError, match="less than or equal to 9"):
        made(knots=10)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"knots": 0}, "knots is 0; give a whole number of at least 1"),
        ({"knots": True}, "knots is True; give a whole number of at least 1"),
        ({"drift": 0}, "drift is 0; give a share above 0, or None"),
        ({"wind": "up"}, "wind is 'up'; give one of north, south"),
        ({"calls": [1]}, r"calls is \[1\]; give a tuple"),
        ({"night": 1}, "night is 1; give true or false"),
    ],
)
def test_the_dataclass_refuses_what_an_option_does_not_take(given, says):
    with pytest.raises(BadInput, match=says):
        Sailing(**given)


def test_the_library_s_keywords_are_the_budgets():
    parameters = inspect.signature(tamis.compress).parameters
    for one in options_of(Budget):
        found = parameters[one.name]
        assert (found.annotation, found.default) == (f"{one.kind.__name__} | None", None)
    assert not {one.name for one in RULES} & set(parameters)


def params(command: Any) -> Iterator[Any]:
    """Every option of a command and of those below it."""
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from params(below)


def test_no_row_of_options_is_left_over():
    shown = {getattr(param, "help", None) for param in params(typer.main.get_command(build_app()))}
    for table in (SHARED, BATCH, MERGE, INDEX):
        for name, row in table.items():
            assert row.help in shown, name
