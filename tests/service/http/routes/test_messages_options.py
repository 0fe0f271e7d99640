"""Every option of `/v1/compress` works with `messages`, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tamis.compressors.tools.lossless import restore
from tamis.service.http.schemas.base import NoEffect
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.http.schemas.messages import NOT_WITH_MESSAGES, MessagesRequest
from tests.service.http.app_kit import SlowReader, pointing, served
from tests.service.http.conversation_kit import ASKS, LOG, call, result

TESTS = [ASKS, call("bash", {"command": "pytest"}), result(LOG)]
OPTIONS = {field.alias or name for name, field in CompressRequest.model_fields.items()}
REFUSED: dict[str, Any] = {
    "questions": ["a?", "b?"],
    "threshold": 0.5,
    "coverage": 0.9,
    "adaptive": {},
    "context_window": 1,
    "fill": True,
    "dedup": 0.9,
    "order": "score",
    "separator": "--",
    "citations": "({doc})",
    "titles": True,
    "top_n": 1,
    "keep_tags": True,
    "answerable_floor": 0.5,
    "unanswerable": "nothing",
    "granularity": "block",
    "read_metadata": ["date"],
    "options": {"form": "token"},
}
UNUSED = {"seed": 1, "user": "ada"}


@pytest.fixture(scope="module")
def service():
    with served(method="lexical") as running:
        yield running


def answer_of(service, **fields: Any) -> Any:
    return service.post("/v1/compress", **{"messages": TESTS, **fields})


def plain(service) -> Any:
    return answer_of(service).json()


def lower_limit(service) -> None:
    found = answer_of(service, max_tokens=500).json()
    assert 0 < sum(one["tokens_after"] for one in found["compressions"]) <= 500
    both = answer_of(service, max_tokens=500, ratio=0.9).json()  # the smallest holds
    assert both["messages"] == found["messages"]


def smaller_share(service) -> None:
    found = answer_of(service, ratio=0.2).json()
    same = answer_of(service, config={"target_ratio": 0.2}).json()
    assert found == same
    assert found["tokens_after"] < plain(service)["tokens_after"]
    assert answer_of(service, ratio=0.2, config={"target_ratio": 0.2}).status_code == 422


def other_question(name: str, value: Any):
    def works(service) -> None:
        found = answer_of(service, ratio=0.2, **{name: value}).json()
        assert "test_room_61" in found["messages"][2]["content"]
        assert "test_room_61" not in answer_of(service, ratio=0.2).json()["messages"][2]["content"]

    return works


def method_by_name(service) -> None:
    assert answer_of(service, method="lead").json()["method"] == "lead"
    assert answer_of(service, model="lead").json()["method"] == "lead"
    assert answer_of(service, model="gpt-4o").json()["method"] == "lexical"
    assert answer_of(service, method="gpt-4o").status_code == 404


def protected_lines(service) -> None:
    for protect in ({"regex": ["room_4[13]"]}, {"regex": ["test_room_41 P"]}):
        found = answer_of(service, protect=protect, ratio=0.3).json()
        assert "test_room_41 PASSED" in found["messages"][2]["content"]
    found = answer_of(service, protect={"numbers": True}, ratio=0.2).json()
    assert any("protect matches" in warning for warning in found["warnings"])
    assert answer_of(service, protect={"regex": ["("]}).status_code == 422


def own_elision(service) -> None:
    found = answer_of(service, elision="(cut)").json()
    assert "(cut)\n" in found["messages"][2]["content"]
    assert "omitted" not in found["messages"][2]["content"]
    assert found["compressions"][0]["omissions"]
    assert "elision" in answer_of(service, elision=" ").json()["error"]["message"]


def known_tokenizer(service) -> None:
    assert plain(service)["tokenizer"] == "proxy"
    assert answer_of(service, tokenizer="gpt").json()["error"]["code"] == "unknown_tokenizer"


def language_of_sentences(service) -> None:
    found = answer_of(service, language="de").json()
    assert "language has no effect: no sentences were compressed" in found["warnings"]
    page = " ".join("Am 3. Mai ist bzw. Fest." for _ in range(80))
    talk = [{"role": "system", "content": page}, ASKS]
    config = {"compress_system_messages": True}
    counts = {
        code: answer_of(service, messages=talk, config=config, language=code).json()
        for code in ("de", "en")
    }
    last = {code: d["compressions"][0]["omissions"][-1]["last"] for code, d in counts.items()}
    assert last["de"] < last["en"]  # "bzw." ends no German sentence


def parts_of_the_answer(service) -> None:
    found = answer_of(service, **{"return": {"spans": False}}).json()["compressions"][0]
    assert found["kept"] is found["omissions"] is None
    for part in ({"units": "all"}, {"documents": False}, {"text": False}):
        answer = answer_of(service, **{"return": part})
        assert f"return.{next(iter(part))}" in answer.json()["error"]["message"]


def other_offsets(service) -> None:
    log = LOG.replace("PASSED", "é")
    spans = [
        answer_of(service, messages=[ASKS, call("t", {}), result(log)], offset_unit=unit).json()
        for unit in ("codepoint", "utf8")
    ]
    first, second = (d["compressions"][0]["kept"][-1][1] for d in spans)
    assert first < second


def whole_in_place_of_an_error(service) -> None:
    reader = SlowReader(pointing(), 400.0)
    with served(reader, timeout_s=0.5) as slow:
        assert answer_of(slow).status_code in (413, 429)
        answer = answer_of(slow, on_error="passthrough")
        assert answer.json()["messages"] == TESTS
        reasons = ("request_too_long", "timeout", "overloaded")
        assert answer.headers["x-tamis-passthrough-reason"] in reasons
        assert any("could not" in warning for warning in answer.json()["warnings"])
        assert answer_of(slow, on_error="passthrough", ratio=2).status_code == 422


def what_was_read_in_time(service) -> None:
    with served(SlowReader(pointing(), 1000.0), timeout_s=60.0, queue_tokens=10**6) as slow:
        found = answer_of(slow, timeout_ms=1000).json()
        assert found["status"] == "partial"
        assert "E       assert 30 == 90\n" in found["messages"][2]["content"]
        assert any("sentences were read in time" in warning for warning in found["warnings"])


def first_served(service) -> None:
    assert answer_of(service, priority=9).json() == plain(service)
    assert answer_of(service, priority=-1).status_code == 422


def nothing_changed(service) -> None:
    found, real = answer_of(service, shadow=True).json(), plain(service)
    assert found["messages"] == TESTS
    assert found["status"] == "shadow"
    assert found["compressions"] == real["compressions"]
    assert found["tokens_after"] == real["tokens_after"]


OBEYED = {
    "max_tokens": lower_limit,
    "ratio": smaller_share,
    "question": other_question("question", "Is test_room_61 there?"),
    "instruction": other_question("instruction", "Look for test_room_61."),
    "history": other_question("history", ["Is test_room_61 there?"]),
    "model": method_by_name,
    "method": method_by_name,
    "protect": protected_lines,
    "elision": own_elision,
    "tokenizer": known_tokenizer,
    "language": language_of_sentences,
    "return": parts_of_the_answer,
    "offset_unit": other_offsets,
    "on_error": whole_in_place_of_an_error,
    "timeout_ms": what_was_read_in_time,
    "priority": first_served,
    "shadow": nothing_changed,
}


def test_every_option_is_obeyed_or_refused_or_asks_for_nothing():
    assert {*OBEYED, *REFUSED, *UNUSED} == OPTIONS - {"documents"}
    assert set(NOT_WITH_MESSAGES) == {*REFUSED, "documents"}
    marks = {f.alias or name: NoEffect.of(f) for name, f in MessagesRequest.model_fields.items()}
    assert set(OBEYED) <= {name for name, mark in marks.items() if mark is None}
    assert set(UNUSED) == {name for name, mark in marks.items() if mark is not None}


def test_options_of_one_name_have_one_type():
    for name in MessagesRequest.model_fields.keys() & CompressRequest.model_fields.keys():
        ours, theirs = CompressRequest.model_fields[name], MessagesRequest.model_fields[name]
        assert str(ours.annotation) == str(theirs.annotation), name
        assert str(ours.metadata) == str(theirs.metadata), name


@pytest.mark.parametrize("name", sorted(set(OBEYED) - {"model"}))
def test_an_option_is_obeyed(service, name):
    OBEYED[name](service)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_without_a_form_is_refused_with_what_to_do(service, name):
    answer = answer_of(service, **{name: REFUSED[name]})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message == f"{name} has no form with messages: {NOT_WITH_MESSAGES[name]}"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_at_its_default_asks_for_nothing(service, name):
    default = CompressRequest.model_fields[name].get_default(call_default_factory=True)
    assert answer_of(service, **{name: default}).json()["messages"] == plain(service)["messages"]


def test_documents_and_messages_are_not_taken_together(service):
    answer = answer_of(service, documents=["a."], question="a?")
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message == f"documents has no form with messages: {NOT_WITH_MESSAGES['documents']}"
    nothing = service.post("/v1/compress", messages=None, max_tokens=9)
    assert nothing.status_code == 422
    assert nothing.json()["error"]["message"] == "messages: Input should be a valid list"


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_what_asks_for_nothing_changes_nothing(service, name):
    assert answer_of(service, **{name: UNUSED[name]}).json() == plain(service)


def test_lossless_leaves_nothing_out_and_takes_no_budget(service):
    log = "".join(f"worker-{i % 3} started on host-{i // 50}\n" for i in range(400))
    given = {"messages": [ASKS, call("bash", {"command": "make"}), result(log)], "lossless": True}
    found = service.post("/v1/compress", **given).json()
    shown = found["messages"][2]["content"]
    assert restore(shown) == log != shown
    [one] = found["compressions"]
    assert (one["omissions"], one["kept"], found["method"]) == ([], [[0, len(log)]], "lossless")
    assert one["tokens_after"] < one["tokens_before"]
    assert found["tokens_saved"] == one["tokens_before"] - one["tokens_after"]
    config = {"retrieval_tags": ["context"]}
    for name, value in {"ratio": 0.5, "method": "lead", "elision": "…", "config": config}.items():
        refused = service.post("/v1/compress", **{**given, name: value})
        assert refused.status_code == 422
        assert "lossless, which leaves nothing out" in refused.json()["error"]["message"]
    documents = service.post("/v1/compress", question="q", documents=[log], lossless=True)
    assert documents.status_code == 422
    assert "send messages, not documents" in documents.json()["error"]["message"]


def test_repeats_are_counted_before_anything_is_left_out(service):
    log = "starting\n" + "".join(f"retry {n}\n" + "waiting for the lock\n" * 60 for n in range(6))
    messages = [ASKS, call("bash", {"command": "make"}), result(log)]
    found = service.post("/v1/compress", messages=messages).json()
    assert restore(found["messages"][2]["content"]) == log
    assert found["compressions"][0]["omissions"] == []
    array = json.dumps([{"name": "the same lamp", "state": "ready"}] * 200, indent=1)
    messages[2] = result(array)
    shown = service.post("/v1/compress", messages=messages).json()["messages"][2]["content"]
    assert len(shown) < len(array) / 2
    json.loads(shown)  # JSON stays JSON
