"""One way to say how much is kept, in Python, on the command line, over HTTP and in a chain."""

from __future__ import annotations

from itertools import product

import pytest
import typer

from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput
from tamis.service.cli.options.typer_options import takes_options
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.integrations.langchain import TamisCompressor

SIZES = {"max_tokens": 7, "ratio": 0.5, "threshold": 0.25, "coverage": 0.9}
LIMITS, FLOORS = ("max_tokens", "ratio"), ("threshold", "coverage")
NONE = dict.fromkeys(SIZES)


def over_http(**given):
    return CompressRequest(question="q", documents=["a"], **given).budget()


@takes_options()
def command(*, budget: Budget):
    return budget


def on_the_command_line(**given):
    try:
        return command(**NONE | given)
    except typer.Exit as end:
        raise end.__cause__ from end


def in_a_chain(**given):
    return TamisCompressor(**given).plan(1).budget


WAYS = {"http": over_http, "cli": on_the_command_line, "chain": in_a_chain, "python": Budget}


@pytest.mark.parametrize("way", WAYS)
def test_a_limit_and_a_floor_go_together(way):
    for names in [(name,) for name in SIZES] + list(product(LIMITS, FLOORS)):
        given = {name: SIZES[name] for name in names}
        assert WAYS[way](**given) == Budget(**given), names


@pytest.mark.parametrize("names", [LIMITS, FLOORS, (*LIMITS, "coverage")], ids=" ".join)
@pytest.mark.parametrize("way", WAYS)
def test_two_of_a_kind_do_not_and_both_are_named(way, names):
    told = r"max.tokens and (--)?ratio" if names[0] in LIMITS else "threshold and (--)?coverage"
    with pytest.raises(ValueError, match=f"{told} cannot be met together"):
        WAYS[way](**{name: SIZES[name] for name in names})


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"python"}))
def test_without_any_five_hundred_tokens_are_kept(way):
    assert WAYS[way]() == Budget(max_tokens=500)


@pytest.mark.parametrize("name", SIZES)
def test_an_adaptive_budget_stands_alone(name):
    with pytest.raises(BadInput, match=f"adaptive and {name} cannot be met together"):
        over_http(adaptive={}, **{name: SIZES[name]})
