"""`tamis serve --upstream`: results that a later step made needless, and what a change costs."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from typing import Any

import pytest

from agents.tests.gateway.step_kit import SHAPES, Step, chat_of
from agents.tests.gateway.test_providers import get
from tamis.probes.errors import BadInput
from tamis.service.http.conversation.billing import Prices, cheapest_change
from tamis.service.http.runtime.settings import Settings
from tamis_agents.estimate import PromptCounter, bills
from tamis_agents.gateway.shortening import replace_strings
from tests.service.http.app_kit import served

FILE = "".join(f"def step_{i}(order):\n    return order.part_{i}\n" for i in range(12))
TRACE = (
    "Traceback (most recent call last):\n" + "  File 'a.py', line 3, in run\n" * 30 + "KeyError: 7"
)
FLAGS = {"method": "lexical", "retrieve_bytes": 1 << 22, "upstream_price": 3.0}
PRICES = Prices(3.0, 0.3, 3.75)


def read(path: str = "a.py", text: str = FILE, **more: Any) -> Step:
    return Step("read_file", {"path": path}, text, **more)


def edit(said: str = "Next.") -> Step:
    return Step("edit_file", {"path": "a.py", "old_string": "x", "new_string": "y"}, "ok", said)


def run(text: str, is_error: bool = False) -> Step:
    return Step("bash", {"command": "python a.py"}, text, is_error=is_error)


DONE = [Step("bash", {"command": "true"}, "ok"), Step("bash", {"command": "date"}, "Sunday")]
LONG = "The orders are kept in the book of the house. " * 60


@pytest.fixture(scope="module")
def service(upstream):
    with served(upstream=upstream.url, **FLAGS) as running:
        yield running


def send(service, upstream, chat, shape: str, **headers: str):
    """The body that went on, and the answer; other results stay whole unless a header says so."""
    before = len(upstream.exchanges)
    answer = service.raw(SHAPES[shape], chat.data, **{"x_tamis_ratio": "1", **headers})
    (asked,) = upstream.exchanges[before:]
    return asked.body.decode(), answer


@pytest.mark.parametrize("shape", SHAPES)
def test_a_needless_result_becomes_a_marker_that_gives_it_back(service, upstream, shape):
    steps = [read(), run(TRACE, is_error=True), edit(), read(), run("42"), *DONE]
    chat = chat_of(shape, f"Cold, in the shape of {shape}.", steps)
    body, answer = send(service, upstream, chat, shape)
    first, failed = (get(json.loads(body), place) for place in chat.places[:2])
    assert re.fullmatch(r"\[… \d+ tokens omitted: the same call was made again below; .*\]", first)
    assert failed.startswith("KeyError: 7\n[… ")
    originals = {chat.places[0]: FILE, chat.places[1]: TRACE}
    assert replace_strings(body, originals) == chat.data.decode()
    assert answer.headers["x-tamis-superseded"] == "2"
    for shown, text in ((first, FILE), (failed, TRACE)):
        (key,) = re.findall(r"hash=([0-9a-f]+)", shown)
        assert service.http.get(f"/v1/retrieve/{key}").json()["original_content"] == text


@pytest.mark.parametrize("ratio", ["1", "0.3"])
@pytest.mark.parametrize("shape", SHAPES)
def test_over_twenty_turns_the_beginning_of_the_prompt_stays_to_the_byte(
    service, upstream, shape, ratio
):
    """Each turn reads the file again, and long answers stand between, which no change pays for."""
    steps, bodies = list[Step](), list[Any]()
    for turn in range(20):
        said = f"{turn} {LONG}"
        steps.append(read(text=FILE * 4, said=said) if turn % 2 else edit(said=said))
        steps += [run(TRACE.replace("7", str(turn)))] if turn % 5 == 0 else []
        chat = chat_of(shape, f"Twenty turns at {ratio}.", steps)
        body, answer = send(service, upstream, chat, shape, x_tamis_ratio=ratio)
        sent = json.loads(body)
        bodies.append(next(sent[n] for n in ("messages", "input", "contents") if n in sent))
        assert float(answer.headers["x-tamis-cost-saved"]) >= 0
    for earlier, later in pairwise(bodies):
        assert json.dumps(later)[: len(json.dumps(earlier)) - 1] == json.dumps(earlier)[:-1]
    assert (body != chat.data.decode()) is (ratio != "1")


def test_what_would_cost_more_than_it_saves_is_passed_on_as_it_came(upstream):
    start = [read(), edit(LONG)]
    more = [*start, read(), *DONE]
    for flags, is_changed in (
        ({}, False),
        ({"upstream_more_requests": 100}, True),  # they read the shorter prompt
        ({"upstream_cache_s": 0}, True),  # the provider has forgotten it anyway
        ({"upstream_price_cached": 3.0, "upstream_price_cache_write": 3.0}, True),  # no discount
        ({"upstream_cache_s": 0, "upstream_steps": False}, False),
    ):
        with served(upstream=upstream.url, **FLAGS, **flags) as service:
            for steps in (start, [*start, *DONE[:1]], more):
                chat = chat_of("openai", "Once.", steps)
                body, answer = send(service, upstream, chat, "openai")
        assert (body != chat.data.decode()) is is_changed, flags
        assert answer.headers["x-tamis-status"] == ("shortened" if is_changed else "unchanged")


def test_the_floor_is_never_touched(service, upstream):
    """The system, users, plans, what was asked back, calls, and the last steps."""
    plan = Step("TodoWrite", {"todos": "x"}, FILE)
    back = Step("tamis_retrieve", {"hash": "ab"}, FILE)
    last = [read(), read(), read("b.py"), read("b.py")]
    chat = chat_of("openai", FILE, [plan, back, plan, back, *last])
    body, _ = send(service, upstream, chat, "openai")
    places = [chat.places[4], chat.places[5]]
    given = dict.fromkeys(places, FILE)
    assert replace_strings(body, given) == chat.data.decode()
    assert "omitted" in get(json.loads(body), places[0])
    answered = [s["content"] for s in json.loads(body)["messages"][-4:] if s["role"] == "tool"]
    assert answered == [FILE, FILE]


def test_results_of_which_nobody_knows_the_call_stay(service, upstream):
    chat = chat_of("gemini", "Of one name.", [read(), *DONE])
    parts = [part for content in chat.body["contents"][1:3] for part in content["parts"][-1:]]
    call, found = parts
    chat.body["contents"][1:3] = [
        {"role": "model", "parts": [call, call]},
        {"role": "user", "parts": [found, found]},
    ]
    body, _ = send(service, upstream, chat, "gemini")
    assert body == chat.data.decode()


def test_costs_are_those_of_an_independent_bill(upstream):
    """`tamis estimate` bills the same requests, from the bodies alone."""
    rng, steps, given, sent, saved = random.Random(3), list[Step](), [], [], 0.0
    pool = [read, lambda: read("b.py", LONG), edit, lambda: run(TRACE), lambda: run("42")]
    with served(upstream=upstream.url, upstream_more_requests=5, **FLAGS) as service:
        counter = PromptCounter(service.service_state.methods.counter("proxy"))
        for _ in range(15):
            steps += [rng.choice(pool)() for _ in range(2)]
            chat = chat_of("openai", LONG * 3, steps)
            body, answer = send(service, upstream, chat, "openai")
            given.append(counter.prompt(chat.body))
            sent.append(counter.prompt(json.loads(body)))
            saved += float(answer.headers["x-tamis-cost-saved"])
        meters = service.http.get("/metrics").text
    before, after = (sum(bill.cost for bill in bills(p, PRICES)) for p in (given, sent))
    assert after < before
    assert saved == pytest.approx(before - after, rel=0.03)
    counted = [
        float(re.search(rf"tamis_upstream_cost_{name}_total{{.*}} (\S+)", meters)[1])
        for name in ("before", "after")
    ]
    assert counted[0] - counted[1] == pytest.approx(saved, abs=1e-4)


def meters(service) -> dict[str, float]:
    """What the service has counted of chats."""
    names = "tokens_(?:in|out|saved)|upstream_tokens_saved_again|upstream_cost_(?:before|after)"
    lines = re.findall(
        rf"^(tamis_(?:{names})_total)\S* (\S+)", service.http.get("/metrics").text, re.M
    )
    return {name: float(value) for name, value in lines}


def test_a_chat_that_the_upstream_refused_saved_nothing(upstream):
    """The provider's cache does not have it, either: the next one is sent for the first time."""
    chat = chat_of("openai", LONG * 3, [read(text=FILE * 4), edit(), read(text=FILE * 4), *DONE])
    with served(upstream=upstream.url, **FLAGS) as service:
        for _ in range(2):
            refused = service.raw(SHAPES["openai"], chat.data[:-1] + b', "fail_with": 1}')
            assert (refused.status_code, set(meters(service).values())) == (429, {0.0})
            assert refused.headers["x-tamis-tokens-saved-again"] == "0"
        _, taken = send(service, upstream, chat, "openai", x_tamis_ratio="0.4")
        first = meters(service)
        assert taken.headers["x-tamis-tokens-saved-again"] == "0"
        saved = int(taken.headers["x-tamis-tokens-saved"])
        assert first["tamis_tokens_saved_total"] == saved > 0
        cost = first["tamis_upstream_cost_before_total"] - first["tamis_upstream_cost_after_total"]
        assert cost == pytest.approx(float(taken.headers["x-tamis-cost-saved"]), abs=1e-6)
        refused = service.raw(SHAPES["openai"], chat.data[:-1] + b', "fail_with": 1}')
        assert (refused.status_code, meters(service)) == (429, first)
        _, again = send(service, upstream, chat, "openai", x_tamis_ratio="0.4")
        assert int(again.headers["x-tamis-tokens-saved-again"]) == saved
        assert meters(service)["tamis_upstream_tokens_saved_again_total"] == saved


def test_a_chat_that_never_reached_the_upstream_saved_nothing():
    chat = chat_of("openai", "Away.", [read(text=FILE * 4), edit(), read(text=FILE * 4), *DONE])
    with served(upstream="http://127.0.0.1:9", **FLAGS) as service:
        for _ in range(2):
            assert service.raw(SHAPES["openai"], chat.data).status_code == 502
            assert set(meters(service).values()) <= {0.0}
        assert meters(service)["tamis_tokens_in_total"] == 0


def test_without_prices_no_costs_are_said(upstream):
    flags = {name: value for name, value in FLAGS.items() if name != "upstream_price"}
    with served(upstream=upstream.url, **flags) as service:
        _, answer = send(service, upstream, chat_of("openai", "No.", [read(), *DONE]), "openai")
    assert "x-tamis-cost-saved" not in answer.headers


def test_a_change_is_made_where_it_is_cheapest_and_never_where_it_costs():
    """Against the bill of every possible start, request by request."""
    rng = random.Random(1)
    for _ in range(300):
        sent = [rng.randint(1, 3000) for _ in range(rng.randint(1, 12))]
        new = [rng.choice([n, rng.randint(1, n)]) for n in sent]
        cached, more = rng.randint(0, len(sent)), rng.choice([0, 1, 7.5])
        start = cheapest_change(sent, new, cached, PRICES, more)

        totals = []
        for at in range(cached + 1):
            left = [*sent[:at], *new[at:]]
            costs = PRICES.bill(sum(left[:at]), sum(left[at:])) + more * PRICES.bill(sum(left), 0)
            totals.append(costs)
        assert start <= cached
        assert totals[start] == pytest.approx(min(totals))
        assert more or totals[start] <= totals[cached]


def test_prices_that_cannot_be_stop_the_start():
    with pytest.raises(BadInput, match="upstream_price_cached is 4"):
        Settings(upstream="http://x", upstream_price=3.0, upstream_price_cached=4.0)
    with pytest.raises(BadInput, match="upstream_price not given"):
        Settings(upstream="http://x", upstream_price_cached=0.3)
