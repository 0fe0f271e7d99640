"""One word has one meaning in Python, on the command line and over HTTP; old words are read."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from pydantic import ValidationError

import tamis
from tamis.service.cli.app import build_app
from tamis.service.http.app import create_app
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.http.schemas.dialects.table import DIALECTS, ENDPOINTS, HEADROOM, TAMIS
from tamis.service.http.schemas.expand import ExpandRequest
from tamis.service.http.schemas.explain import ExplainRequest
from tamis.service.http.schemas.messages import MessagesRequest
from tamis.service.http.schemas.search import SearchRequest
from tests.service.http.app_kit import BODY, NEEDLE, QUESTION, served
from tests.service.http.conversation_kit import ASKS, LOG, call, result

PAGE = Path(__file__).parents[2] / "docs/architecture.md"
KINDS = ("arguments", "attributes", "requests", "answers", "flags")
"""Where a name may stand: of public functions, of public classes, in JSON, on the command line."""
GROUPS = {
    "": KINDS,
    "arguments": ("arguments", "requests"),
    "JSON": ("requests", "answers"),
    "Python": ("arguments", "attributes"),
    "answers": ("answers",),
    "flags": ("flags",),
}
OF_OTHERS = {"/tokenize"}
"""Routes that are vLLM's and TEI's, though not rows of the table of dialects."""
_REF = re.compile(r'"#/components/schemas/([^"]+)"')
OWN_REQUESTS = (CompressRequest, ExplainRequest, ExpandRequest, SearchRequest, MessagesRequest)


def banned_words() -> Iterator[tuple[str, str]]:
    """Each kind of names with a word that no name of this kind may have, from the page's table."""
    table = PAGE.read_text("utf-8").partition("## Words")[2].partition("\n## ")[0]
    for row in re.findall(r"(?m)^\| [^|]* \| [^|]* \| ([^|]*) \|$", table):
        for part in row.split(";"):
            group, _, words = part.rpartition(":")
            for word in re.findall(r"`(\w+)`", words):
                yield from ((kind, word) for kind in GROUPS[group.strip()])


@pytest.fixture(scope="module")
def names() -> dict[str, set[str]]:
    """The public names of each kind."""
    document = create_app(Settings(), reader=object()).openapi()
    foreign = {of.__name__ for row in DIALECTS for of in (row.request, row.answer)
               if row not in (TAMIS, HEADROOM) and isinstance(of, type)}  # fmt: skip
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    theirs = {path for one in ENDPOINTS if TAMIS not in one.dialects for path in one.paths}
    for path, operations in document["paths"].items():
        if path.replace(":path", "") in {p.replace(":path", "") for p in theirs | OF_OTHERS}:
            continue
        for of in operations.values():
            asked = [of.get("requestBody"), of.get("parameters")]
            found["requests"] |= {one["name"] for one in of.get("parameters", ())}
            found["requests"] |= set(properties(document, asked, foreign))
            answered = [of["responses"].get("200")]
            found["answers"] |= set(properties(document, answered, foreign))
    for name in tamis.__all__:
        of = getattr(tamis, name)
        if inspect.isfunction(of):
            found["arguments"] |= set(inspect.signature(of).parameters)
        elif isinstance(of, type):
            own = fields(of) if is_dataclass(of) else ()
            found["attributes"] |= {one.name for one in own if not one.name.startswith("_")}
            found["attributes"] |= {one for one in vars(of) if not one.startswith("_")}
    found["flags"] = set(flags_of(typer.main.get_command(build_app())))
    return found


def properties(document: Any, nodes: Any, foreign: set[str]) -> Iterator[str]:
    """The names of the properties that nodes lead to, without those of other dialects."""
    schemas, seen = document["components"]["schemas"], set(foreign)
    waiting = [nodes]
    while waiting:
        node = waiting.pop()
        yield from names_in(node)
        new = set(_REF.findall(json.dumps(node))) - seen
        seen |= new
        waiting += [schemas[name] for name in new]


def names_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(given := node.get("properties"), dict):
            yield from given
        for one in node.values():
            yield from names_in(one)
    elif isinstance(node, list):
        for one in node:
            yield from names_in(one)


def flags_of(command: Any) -> Iterator[str]:
    """The long flags of a command and of those below it, as help shows them."""
    for option in command.params:
        yield from (flag[2:] for flag in option.opts if flag.startswith("--"))
    for below in getattr(command, "commands", {}).values():
        yield from flags_of(below)


def test_no_public_name_has_a_second_word_for_what_the_table_names(names):
    banned = list(banned_words())
    assert len(banned) > 15
    assert all(len(names[kind]) > 10 for kind in KINDS), names
    wrong = {
        (kind, name)
        for kind, word in banned
        for name in names[kind]
        if word in re.split(r"[_-]", name)
    }
    assert not wrong, sorted(wrong)


@pytest.mark.parametrize("model", OWN_REQUESTS, ids=lambda model: model.__name__)
def test_a_request_is_understood_by_its_old_names(model):
    rest = {"messages": [ASKS]} if model is MessagesRequest else {"documents": ["A. B."]}
    rest = {} if model is SearchRequest else rest
    rest |= {"spans": [{"index": 0, "start": 0, "end": 2}]} if model is ExpandRequest else {}
    old = model.model_validate({**rest, "query": "a?"})
    assert old == model.model_validate({**rest, "question": "a?"})
    assert old == model.model_validate({**rest, "question": "a?", "query": "a?"})
    assert old == model.model_validate({**rest, "question": None, "query": "a?"})
    assert old.question == "a?"
    with pytest.raises(ValidationError, match="query is the old name of question, and their val"):
        model.model_validate({**rest, "question": "a?", "query": "b?"})


def test_a_service_answers_old_names_without_a_warning_and_refuses_two_values():
    body = {name: value for name, value in BODY.items() if name != "question"}
    with served(retrieve_bytes=1 << 20) as service:
        now, old = (service.post("/v1/compress", **body, **{name: QUESTION})
                    for name in ("question", "query"))  # fmt: skip
        assert old.json()["text"] == now.json()["text"] == NEEDLE
        assert old.json()["warnings"] == now.json()["warnings"] == []
        assert "X-Tamis-Warnings" not in old.headers
        many = service.post("/v1/compress", **body, queries=[QUESTION, "Which wall?"]).json()
        assert many["data"][0]["text"] == NEEDLE
        two = service.post("/v1/compress", **BODY, query="Which wall?")
        assert two.status_code == 422
        assert "give question alone" in two.json()["error"]["message"]
        batch = service.post("/v1/compress/batch", inputs=[{**body, "query": QUESTION}]).json()
        assert batch["data"][0]["compression"]["text"] == NEEDLE
        check_retrieval(service.http)


def check_retrieval(http: httpx.Client) -> None:
    talk = [ASKS, call("bash", {"command": "pytest"}), result(LOG)]
    asked = {"messages": talk, "config": {"mode": "ccr"}, "ratio": 0.2, "query": "violet"}
    answer = http.post("/v1/compress", json=asked).json()
    assert answer["warnings"] == []
    path = f"/v1/retrieve/{answer['ccr_hashes'][0]}"
    now, old = (http.get(path, params={name: "test_room_61"}).json()["original_content"]
                for name in ("question", "query"))  # fmt: skip
    assert "test_room_61" in old
    assert old == now
    two = http.get(path, params={"question": "test_room_61", "query": "test_room_62"})
    assert (two.status_code, "old name" in two.json()["error"]["message"]) == (422, True)
    conversation = {**asked, "queries": ["a?", "b?"]}
    refused = http.post("/v1/compress", json=conversation).json()["error"]["message"]
    assert "questions has no form with messages" in refused
