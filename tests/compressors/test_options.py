"""Options of methods: a value of another kind is refused by name, with what to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from tamis.compressors.method import MethodInfo, ScoringMethod
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.options import option, options_of
from tamis.compressors.registry import build_method, check_options, method_class, method_names
from tamis.probes.errors import BadInput
from tests.laws.methods import head_profile, question_probe, sentinel_probe
from tests.scripted import ScriptedReader


class Longest(ScoringMethod):
    """A method with a model, an option, one that becomes something else, and state."""

    info: ClassVar[MethodInfo] = MethodInfo("the longest", "a test", "proxy")
    reader: Any
    words: int = option(2, "How many words count.", ge=1)
    stop: Path = option("auto", "A list of words.", takes=Path | str)

    def setup(self) -> None:
        self.stop = Path(self.stop)
        self.room = 10 * self.words


def test_a_methods_fields_are_its_models_and_its_options():
    made = Longest("a proxy", words=3)
    assert (made.reader, made.words, made.stop, made.room) == ("a proxy", 3, Path("auto"), 30)
    assert Longest("another", 3) != made
    assert [(one.name, one.default, one.describe_values()) for one in options_of(Longest)] == [
        ("words", 2, "a whole number of at least 1"),
        ("stop", "auto", "a path or a text"),
    ]
    with pytest.raises(BadInput, match="words is 0; give a whole number of at least 1"):
        Longest("a proxy", words=0)
    with pytest.raises(BadInput, match="Longest: stop is 1; give a path or a text"):
        check_options(Longest, {"stop": 1})


@pytest.mark.parametrize("name", method_names(None))
def test_every_option_of_a_method_takes_its_own_default_and_says_what_it_does(name: str):
    for one in options_of(method_class(name)):
        one.check(one.default)
        assert one.help.endswith("."), one.name


@pytest.mark.parametrize(
    ("name", "given", "value", "give"),
    [
        ("ehpc", "calibrate", "False", "true or false"),
        ("question_rows", "isolated", 1, "true or false"),
        ("infiniretri", "top_k", "abc", "a whole number of at least 1"),
        ("infiniretri", "top_k", 0, "a whole number of at least 1"),
        ("infiniretri", "heads", True, "a whole number of at least 0"),
        ("infiniretri", "form", "backwards", "one of sequential, independent"),
        ("ehpc", "heads", 2.5, "a whole number of at least 1, or None"),
        ("ehpc", "profile", [1], "a HeadProfile or a path or a text"),
        ("fusion", "weights", "all", "a mapping, or None"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_any_model_is_loaded(name, given, value, give):
    with pytest.raises(BadInput) as refused:
        build_method(name, proxy="nobody", root=Path("nowhere"), **{given: value})
    assert str(refused.value) == f"{name}: {given} is {value!r}; give {give}"


def test_values_of_the_right_kind_pass():
    reader = ScriptedReader.from_needles("pin")
    check_options("ehpc", {"profile": head_profile(reader), "heads": 2})
    check_options("ehpc", {"profile": "auto", "calibrate": False})
    check_options("question_rows", {"probe": question_probe(reader), "cascade": False})
    check_options("fusion", {"weights": {"lexical": 1}})


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="not finite numbers"):
        build_method("fusion", proxy=ScriptedReader.from_needles("x"), weights={"lexical": "much"})


@pytest.mark.parametrize(
    "make",
    [
        lambda r: Sentinel(r, sentinel_probe(r), chunk_tokens=0),
        lambda r: QuestionRows(r, None, window_tokens=0),
    ],
)
def test_windows_below_a_token_are_refused(make):
    with pytest.raises(BadInput, match="tokens is 0; give a whole number of at least 1"):
        make(ScriptedReader.from_needles("pin"))
