"""`/v1/explain`: what it says of other budgets is what `/v1/compress` keeps, and its progress."""

from __future__ import annotations

import itertools
import threading

import pytest

from tamis.service.http.schemas.explain import budget_stops
from tests.service.http.app_kit import (
    BODY,
    DOCUMENTS,
    NEEDLE,
    QUESTION,
    Gated,
    pointing,
    served,
    wait_until,
)

MANUAL = f"""# Keys

The wall is blue. {NEEDLE} Rooms are painted in spring.

- Lamps are green.
- Doors are closed at night:

```
tamis keys new
```

| day | market |
|---|---|
| Monday | bread |
| Friday | cheese |

{NEEDLE} Rooms are painted in spring and never in the winter.

## Later

Café 🚂 opens at six. Nothing else is said.
"""


@pytest.fixture(scope="module")
def service():
    with served(pointing()) as running:
        yield running


def ask(service, path, **fields):
    answer = service.post(path, question=QUESTION, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def kept_of(answer):
    return {u["index"] for d in answer["results"] for u in d["units"] if u["kept"]}


def cut_of(answer):
    """Where each unit begins."""
    return [(d["index"], u["start"]) for d in answer["results"] for u in d["units"]]


def replayed(selections):
    """Each selection's budget, tokens and units, the changes added up."""
    kept = set()
    for one in selections:
        assert not kept & set(one["added"])
        assert set(one["removed"]) <= kept
        kept = (kept | set(one["added"])) - set(one["removed"])
        yield one["max_tokens"], one["tokens"], set(kept)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"citations": "[{doc}] "},
        {"fill": True, "dedup": None},
        {"top_n": 1},
        {"granularity": "block"},
        {"method": "lexical"},
        {"elision": "…", "order": "score"},
    ],
    ids=str,
)
def test_under_every_budget_the_service_keeps_what_the_selections_say(service, fields):
    request = {"documents": [MANUAL, *DOCUMENTS], **fields}
    explained = ask(service, "/v1/explain", **request, max_tokens=50, selections=24)
    found = list(replayed(explained["selections"]))
    assert len(found) > 8
    assert [budget for budget, _, _ in found] == sorted({budget for budget, _, _ in found})
    alike = 0
    for budget, tokens, kept in found:
        asked = ask(service, "/v1/explain", **request, max_tokens=budget)
        if cut_of(asked) != cut_of(explained):  # a budget shorter than a block of code cuts it
            assert asked["status"] == "passthrough" or budget < 50, budget
            continue
        alike += 1
        assert kept_of(asked) == kept, budget
        assert asked["usage"]["output_tokens"] == tokens <= budget or budget == found[-1][0]
    assert alike > 8


def test_the_last_budget_is_the_whole_context_and_the_first_the_shortest_unit(service):
    explained = ask(
        service, "/v1/explain", documents=[MANUAL], max_tokens=50, selections=10, method="lexical"
    )
    *_, last = replayed(explained["selections"])
    units = explained["results"][0]["units"]
    assert last[2] == {u["index"] for u in units}
    assert last[:2] == (explained["usage"]["input_tokens"],) * 2
    first = next(replayed(explained["selections"]))
    assert len(first[2]) >= 1


def test_units_say_where_the_next_one_begins(service):
    explained = ask(service, "/v1/explain", documents=[MANUAL], max_tokens=50, offset_unit="utf16")
    units = explained["results"][0]["units"]
    wide = MANUAL.encode("utf-16-le")
    for unit, after in itertools.pairwise(units):
        assert unit["end"] <= unit["next"] <= after["start"]
        assert not wide[2 * unit["end"] : 2 * after["start"]].decode("utf-16-le").strip()
    assert units[-1]["next"] == len(wide) // 2


def test_selections_are_left_out_unless_asked_for(service):
    assert ask(service, "/v1/explain", documents=DOCUMENTS, max_tokens=40)["selections"] is None
    answer = service.post("/v1/compress", **BODY, selections=4)
    assert answer.status_code == 422
    assert "selections" in answer.json()["error"]["message"]


@pytest.mark.parametrize("fields", [{"coverage": 0.9}, {"adaptive": {}}])
def test_selections_refuse_budgets_that_they_cannot_follow(service, fields):
    answer = service.post(
        "/v1/explain", question=QUESTION, documents=DOCUMENTS, selections=4, **fields
    )
    assert answer.status_code == 422
    assert "selections" in answer.json()["error"]["message"]


@pytest.mark.parametrize("own", [33, 61, 83])
def test_the_budget_of_the_request_is_among_the_selections(service, own):
    body = {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": own, "method": "lexical"}
    found = service.post("/v1/explain", **body, selections=6).json()
    [chosen] = [one for one in found["selections"] if one["max_tokens"] == own]
    assert chosen["tokens"] == found["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("most", "count"),
    [(1, 5), (7, 20), (7, 1), (700, 60), (700, 1), (20_800, 120), (9**9, 9)],
)
def test_budgets_rise_to_the_whole_context_in_round_steps(most, count):
    stops = budget_stops(most, count)
    assert stops == sorted(set(stops))
    assert len(stops) <= count or most <= count
    assert stops[-1] == most
    if most > count > 1:
        assert all(len(str(stop).rstrip("0")) <= 2 for stop in stops[:-1])
        large = [stop for stop in stops if stop >= 50]
        steps = [after / before for before, after in itertools.pairwise(large)]
        assert max(steps) < 1.25 * most ** (1 / (count - 1))


def test_progress_says_how_much_of_a_request_was_read():
    gated = Gated(pointing(), batches=2)
    with served(gated, warmup=False, batch_tokens=40) as service:
        documents = [f"{NEEDLE} Room {i} is painted in spring." for i in range(6)]
        body = {"question": QUESTION, "documents": documents, "max_tokens": 30}
        done = threading.Thread(
            target=lambda: service.http.post(
                "/v1/explain", json=body, headers={"x-request-id": "mine"}
            )
        )
        done.start()
        progress = lambda: service.http.get("/v1/progress/mine").json()  # noqa: E731
        wait_until(lambda: progress()["status"] == "reading")
        assert 0 < progress()["tokens_read"] < progress()["tokens"]
        assert service.http.get("/v1/progress/other").json()["status"] == "unknown"
        gated.open()
        done.join(30)
        assert progress() == {"status": "unknown", "tokens": 0, "tokens_read": 0}
