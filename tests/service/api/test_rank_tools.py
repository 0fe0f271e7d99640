"""`tamis.rank_tools`: tools in every shape, ranked by a real encoder; and what a chat is sent."""

from __future__ import annotations

import asyncio
from copy import deepcopy

import pytest

import tamis
from tamis.probes.errors import BadInput
from tamis.probes.hub import zoo
from tamis.probes.model.encoder import Encoder
from tamis.service.api.rank_tools import THRESHOLD, ToolRanker, choose_tools, read_tools
from tests.service.api.tool_definitions import (
    DESCRIPTIONS,
    SCHEMA,
    anthropic_tools,
    openai_tools,
)

ASKED = {
    "Will it rain in Oslo tomorrow?": "getWeatherForecast",
    "Book a seat on a plane from Rome to Paris": "book_flight",
    "how many dollars are 20 euros": "convert_currency",
    "save my work in version control": "git_commit",
}


@pytest.mark.parametrize("asked", ASKED)
def test_the_tool_that_fits_comes_first(asked):
    found = tamis.rank_tools(asked, openai_tools(), top_n=3)
    assert found.results[0].name == ASKED[asked]
    assert found.fits
    assert found.encoder == "minilm-l6"
    assert len(found.results) == 3
    scores = [one.score for one in found.results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_none_of_them_is_an_answer():
    found = tamis.rank_tools("Who was the second emperor of Rome?", openai_tools())
    assert not found.fits
    assert found.results[0].score < THRESHOLD
    assert tamis.rank_tools("Who was the second emperor of Rome?", openai_tools(), threshold=0).fits
    assert not tamis.rank_tools("umbrella", []).fits


SHAPES = {
    "openai": openai_tools(),
    "anthropic": anthropic_tools(),
    "mcp": [
        {"name": n, "title": n, "description": d, "inputSchema": SCHEMA, "annotations": {}}
        for n, d in DESCRIPTIONS.items()
    ],
    "responses": [
        {"type": "function", "name": n, "description": d, "parameters": SCHEMA, "strict": True}
        for n, d in DESCRIPTIONS.items()
    ],
    "gemini": [
        {
            "functionDeclarations": [
                {"name": n, "description": d, "parametersJsonSchema": SCHEMA}
                for n, d in DESCRIPTIONS.items()
            ]
        }
    ],
    "bare": [{"name": n, "description": d, "parameters": SCHEMA} for n, d in DESCRIPTIONS.items()],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_same_scores_and_the_callers_objects_come_back(shape):
    asked, tools = next(iter(ASKED)), SHAPES[shape]
    before = deepcopy(tools)
    found = tamis.rank_tools(asked, tools, top_n=None)
    whole = tamis.rank_tools(asked, openai_tools(), top_n=None)
    assert [(one.index, one.score) for one in found.results] == [
        (one.index, one.score) for one in whole.results
    ]
    assert tools == before
    given = tools[0]["functionDeclarations"] if shape == "gemini" else tools
    assert all(one.tool is given[one.index] for one in found.results)
    assert found.tools == [one.tool for one in found.results]


def test_names_and_parameters_are_read():
    tools = [{"name": f"tool_{i}", "description": "Does something."} for i in range(5)]
    nested = {"type": "array", "items": {"properties": {"iban": {"description": "of the account"}}}}
    tools[3]["parameters"] = {"properties": {"transfers": nested}}
    tools[4]["name"] = "deleteBankStatement"
    [first] = tamis.rank_tools("which iban has the account", tools, top_n=1).results
    assert first.index == 3
    [first] = tamis.rank_tools("delete the bank statement", tools, top_n=1).results
    assert first.index == 4
    cyclic = {"properties": {"again": {}}}
    cyclic["properties"]["again"] = {"items": cyclic}
    assert "again" in read_tools([{"name": "x", "parameters": cyclic}])[0].text


def test_messages_ask_by_the_last_turn_of_the_user():
    messages = [
        {"role": "user", "content": "I want to fly from Rome to Paris"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": [{"type": "text", "text": "And how many dollars is that?"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "y"}]},
    ]
    found = asyncio.run(tamis.arank_tools(messages, openai_tools(), top_n=1))
    assert found.results[0].name == "convert_currency"


@pytest.mark.parametrize(
    ("asked", "tools", "fields", "why"),
    [
        (" ", openai_tools(), {}, "the question is empty"),
        ([{"role": "assistant", "content": "x"}], openai_tools(), {}, "no message of a user"),
        (["x"], openai_tools(), {}, "message 0 is of type str"),
        ("x", {"name": "x"}, {}, "tools is of type dict"),
        ("x", [{"name": "a"}, "b"], {}, "tool 1 is of type str"),
        ("x", [{"type": "web_search"}], {}, "tool 0 has no name"),
        ("x", [{"type": "function", "function": None}], {}, "tool 0 has no name"),
        ("x", [{"name": "a", "parameters": [1]}], {}, r"parameters of tool 0 \('a'\) are of type"),
        ("x", [{"name": "a", "description": 7}], {}, r"description of tool 0 \('a'\)"),
        ("x", openai_tools(), {"top_n": 0}, "top_n is 0"),
        ("x", openai_tools(), {"threshold": 2}, "threshold is 2"),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused(asked, tools, fields, why):
    with pytest.raises(BadInput, match=why):
        tamis.rank_tools(asked, tools, **fields)


def test_without_an_encoder_the_words_decide_and_a_warning_says_so(tmp_path):
    found = tamis.rank_tools("currency exchange rate", openai_tools(), root=tmp_path)
    assert found.results[0].name == "convert_currency"
    assert found.encoder is None
    assert "tamis models pull minilm-l6" in found.warnings[0]


class Counting:
    """An encoder that notes how many texts it was given, and stops after `most`."""

    def __init__(self, most: int = 10**6) -> None:
        self.encoder = Encoder.from_folder(zoo.locate("minilm-l6"))
        self.texts, self.most = 0, most

    def encode(self, texts):
        if self.texts + len(texts) > self.most:
            raise TimeoutError
        self.texts += len(texts)
        return self.encoder.encode(texts)


def test_a_second_request_costs_the_encoding_of_its_question():
    encoder, tools = Counting(), read_tools(openai_tools() * 2)
    ranker = ToolRanker(encoder, None)
    ranker.rank("weather", tools)
    assert encoder.texts == len(DESCRIPTIONS) + 1
    ranker.rank("a flight", tools[5:])
    assert encoder.texts == len(DESCRIPTIONS) + 2


def test_what_was_encoded_before_the_time_was_over_stays():
    tools = read_tools([{"name": f"tool {i}", "description": "x" * i} for i in range(40)])
    ranker = ToolRanker(encoder := Counting(most=35), None)
    with pytest.raises(TimeoutError):
        ranker.rank("tool", tools)
    encoder.most = 10**6
    ranker.rank("tool", tools)
    assert encoder.texts == 41


TURNS = [
    "I want to fly from Rome to Paris",
    "a seat on a plane at noon, please",
    "thanks a lot",
    "now commit the staged changes of my repository",
    "and a flight back",
]


def test_what_is_sent_depends_on_the_turns_so_far_and_never_shrinks():
    ranker, tools = ToolRanker(Counting(), None), read_tools(openai_tools())
    sent = [ranker.choose(TURNS[:n], tools, 3) for n in range(1, len(TURNS) + 1)]
    names = [[tools[i].name for i in one] for one in sent]
    assert sent[0] == sent[1] == sent[2]
    assert len(sent[0]) == 3
    assert "git_commit" not in names[2]
    assert set(names[3]) - set(names[2]) == {"git_commit"}
    assert sent[3] == sent[4] == sorted(sent[3])


def test_a_later_turn_adds_tools_only_where_nothing_that_is_sent_fits():
    scores = {"first": [0.9, 0.1, 0.1], "both fit": [0.6, 0.8, 0.1], "other": [0.1, 0.2, 0.7]}

    def rank(question):
        return sorted(enumerate(scores[question]), key=lambda one: -one[1])

    names = ["a", "b", "c"]
    assert choose_tools(rank, ["first"], names, 1) == [0]
    assert choose_tools(rank, ["first", "both fit"], names, 1) == [0]
    assert choose_tools(rank, ["first", "other"], names, 1) == [0, 2]
    assert choose_tools(rank, ["first", "other", "both fit", "first"], names, 1) == [0, 2]


def test_what_all_tools_are_equally_like_says_nothing():
    """A tool beside others that are like it scores less than beside others that are not."""
    wanted = {"name": "temperatures", "description": "Degrees of these days."}
    like = [{"name": f"forecast {i}", "description": "Degrees, rain."} for i in range(9)]
    unlike = [{"name": f"ledger {i}", "description": "Accounts, taxes."} for i in range(9)]

    def score(others):
        # no tool has a word of the question, so the vectors alone decide
        ranked = tamis.rank_tools("how warm does it get outside?", [wanted, *others], top_n=None)
        return next(one.score for one in ranked.results if one.index == 0)

    assert score(like) < score(unlike)


def test_pinned_tools_stay_and_without_a_turn_all_do():
    def rank(question):
        return [(1, 0.1), (0, 0.05), (2, 0.01)]

    assert choose_tools(rank, ["x"], ["a", "b", "c"], 1) == [1]
    assert choose_tools(rank, ["x"], ["a", "b", "c"], 1, ["c"]) == [1, 2]
    assert choose_tools(rank, [" "], ["a", "b", "c"], 1) == [0, 1, 2]
