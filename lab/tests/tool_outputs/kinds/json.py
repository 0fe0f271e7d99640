"""JSON as curl brings it from a server: arrays, nested answers, JSON Lines; pretty or not."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab.tests.tool_outputs.kit import Workshop, bash, label_values
from lab.tests.tool_outputs.words import CITIES, nouns, person, sentence

TOOLS = {"curl": "curl --version"}
JSON, ROWS = ({"rule": "json"},), ({"rule": "lines"}, {"rule": "json_lines"})
Row = dict[str, Any]
Wanted = Callable[[Any], bool]


def users(rng: random.Random, count: int, i: int) -> tuple[list[Row], str, Wanted]:
    """Accounts, one of them unlike the others."""
    rows = [
        {
            "id": 1000 + n,
            "name": person(rng),
            "status": "active",
            "city": rng.choice(CITIES),
            "last_login": f"2026-10-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:17:00Z",
            "roles": rng.sample(["reader", "editor", "billing"], rng.randint(1, 2)),
        }
        for n in range(count)
    ]
    odd = rows[rng.randrange(count)]
    if i % 2:
        odd["status"], asks = "suspended", "Which user is suspended?"
    else:
        odd["roles"], asks = ["admin"], "Who is an admin?"
    return rows, asks, partial(_same, odd)


def orders(rng: random.Random, count: int, i: int) -> tuple[list[Row], str, Wanted]:
    """Orders with lines, one asked for by its number, or failed."""
    rows = [
        {
            "order": f"A-{50_000 + n * 7}",
            "customer": {"name": person(rng), "city": rng.choice(CITIES)},
            "lines": [
                {"sku": f"{noun}-{rng.randint(10, 99)}", "quantity": rng.randint(1, 9)}
                for noun in nouns(rng, rng.randint(1, 3))
            ],
            "total": round(rng.uniform(5, 900), 2),
            "payment": "settled",
        }
        for n in range(count)
    ]
    odd = rows[rng.randrange(count)]
    if i % 2:
        asks = f"What was ordered in {odd['order']}?"
    else:
        odd["payment"], asks = "charge failed: card expired", "Which payment failed?"
    return rows, asks, partial(_same, odd)


def events(rng: random.Random, count: int, i: int) -> tuple[list[Row], str, Wanted]:
    """Events of services, one of them an error."""
    rows = [
        {
            "time": f"2026-11-{1 + n // 60:02}T{n % 24:02}:{n % 60:02}:09Z",
            "service": rng.choice(("billing", "search", "mail", "gateway")),
            "level": rng.choice(("info", "info", "debug")),
            "message": sentence(rng, 7),
            "trace": f"{rng.getrandbits(64):016x}",
        }
        for n in range(count)
    ]
    odd, noun = rows[rng.randrange(count)], f"{rng.choice(nouns(rng, 5))}_{i}"
    odd |= {"level": "error", "message": f"write to {noun} failed: disk quota exceeded"}
    return rows, f"Why can {noun} not be written?", partial(_same, odd)


SHAPES = (users, orders, events)


def _same(odd: Row, value: Any) -> bool:
    return bool(value == odd)


def make(shop: Workshop) -> None:
    """Twenty-four answers in JSON, eight in JSON Lines."""
    with served(shop.root) as url:
        for i in range(24):
            _add_json(shop, url, i)
        for i in range(8):
            _add_rows(shop, url, i)


def _add_json(shop: Workshop, url: str, i: int) -> None:
    rng = shop.rng(f"json {i}")
    rows, asks, wanted = SHAPES[i % 3](rng, 60 + 10 * (i % 9), i // 3)
    name = SHAPES[i % 3].__name__
    body: Any = rows
    if i % 4 == 1:
        body = {"page": 1, "next": None, "total": len(rows), name: rows}
    elif i % 4 == 3:
        half = len(rows) // 2
        body = {"meta": {"took_ms": 12}, "groups": {"eu": rows[:half], "us": rows[half:]}}
    indent = (2, None, 2, 2, None)[i % 5]
    text = json.dumps(body, indent=indent, ensure_ascii=False)
    text, call = _fetch(shop, url, f"{name}{i}.json", text, i)
    shop.add(call, asks, text, label_values(text, wanted), (), JSON)


def _add_rows(shop: Workshop, url: str, i: int) -> None:
    rng = shop.rng(f"rows {i}")
    rows, asks, wanted = SHAPES[i % 3](rng, 90 + 12 * i, i // 3)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text, call = _fetch(shop, url, f"{SHAPES[i % 3].__name__}{i}.jsonl", text, i)
    shop.add(call, asks, text, label_values(text, wanted), (), ROWS)


def _fetch(shop: Workshop, url: str, name: str, text: str, i: int) -> tuple[str, Any]:
    (shop.root / name).write_text(text, "utf-8")
    got = shop.run(f"curl -s {url}/{name}", shop.root)
    address = f"https://api.example.org/v2/{name.partition('.')[0].rstrip('0123456789')}"
    return got, bash(f"curl -s {address}") if i % 2 else ("http_get", {"url": address})


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the files in a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: object) -> None:
        """Says nothing."""
