"""Sends one request of each kind to a service and checks the answers: `deploy/smoke.py URL`.

    python3 deploy/smoke.py http://localhost:8080
    TAMIS_API_KEY=tamis_... python3 deploy/smoke.py https://tamis.example.org --wait 120

Verbatim: all kept text is a slice of the document sent. Budget: no answer has more tokens than
allowed, counted by the server's own tokenizer. Order: the best document is first. Only the standard
library is used, so it runs wherever Python is installed. Exit code 1 if a check fails, 2 if the
service cannot be reached.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

QUESTION = "How are keys rotated?"
NEEDLE = "Keys are rotated every 90 days by the duty officer."
DOCUMENTS = [
    f"Rooms are painted in spring.\r\n\r\n{NEEDLE}  Nobody counts bicycles. \U0001f511 e\u0301!",
    "The ferry leaves at noon. It carries forty cars, and the harbour stays open on Tuesdays.",
]
MAX_TOKENS = 18


class Broken(Exception):
    """A check failed."""


class Service:
    """A service at an address."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url, self.key = url.rstrip("/"), key

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the body: parsed if it is JSON, else text."""
        head = {"content-type": "application/json"}
        head |= {"authorization": f"Bearer {self.key}"} if self.key else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=head)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, _parse_body(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _parse_body(error.read())

    def ask_ok(self, path: str, body: Any = None) -> Any:
        """The body of an answer that must have status 200."""
        status, answer = self.ask(path, body)
        must(status == 200, f"{path} answered {status}: {str(answer)[:300]}")
        return answer


def must(holds: bool, otherwise: str) -> None:
    """Raises `Broken` unless it holds."""
    if not holds:
        raise Broken(otherwise)


def _parse_body(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def check_verbatim(answer: Any) -> None:
    """Every span is a slice of its document, and the text holds it."""
    kept = [(DOCUMENTS[one["index"]], one) for one in answer["results"] if one["kept"]]
    must(bool(kept), "nothing was kept")
    for document, one in kept:
        for span in one["relevant_spans"]:
            piece = document[span["start"] : span["end"]]
            must(bool(piece) and piece in answer["text"], f"not in the text verbatim: {piece!r}")


def compress(service: Service) -> str:
    """The needle is kept, verbatim, below the budget, as the server's own tokenizer counts it."""
    answer = service.ask_ok(
        "/v1/compress", {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": MAX_TOKENS}
    )
    check_verbatim(answer)
    must(NEEDLE in answer["text"], f"the answer was not kept: {answer['text']!r}")
    count = service.ask_ok("/tokenize", {"prompt": answer["text"], "add_special_tokens": False})[
        "count"
    ]
    must(count <= MAX_TOKENS, f"{count} tokens where {MAX_TOKENS} were allowed")
    return f"{count} of {MAX_TOKENS} tokens"


def many_questions(service: Service) -> str:
    """Many questions of the same documents, and many requests in one call."""
    many = {"questions": [QUESTION, "When does the ferry leave?"], "documents": DOCUMENTS}
    data = service.ask_ok("/v1/compress", {**many, "max_tokens": MAX_TOKENS})["data"]
    must(len(data) == 2, f"2 questions, {len(data)} answers")
    one = {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": MAX_TOKENS}
    bad = {**one, "max_tokens": 1}
    answer = service.ask_ok("/v1/compress/batch", {"inputs": [one, bad]})
    must(NEEDLE in json.dumps(answer, ensure_ascii=False), "one that fails has harmed another")
    return "2 questions, 2 inputs"


def explain(service: Service) -> str:
    """The sentences cover each document; only white space is between them."""
    answer = service.ask_ok(
        "/v1/explain", {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": MAX_TOKENS}
    )
    must(len(answer["results"]) == len(DOCUMENTS), "a document is missing")
    for document, one in zip(DOCUMENTS, answer["results"], strict=True):
        covered = "".join(document[u["start"] : u["end"]] for u in one["units"])
        must(
            "".join(covered.split()) == "".join(document.split()), "a part of a document is missing"
        )
    return f"{sum(len(one['units']) for one in answer['results'])} sentences"


def rerank(service: Service) -> str:
    """The document with the answer is first, to the clients of each vendor."""
    plain = {"query": QUESTION, "documents": DOCUMENTS[::-1]}
    shapes: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
        "cohere": ("/v2/rerank", {**plain, "model": "rerank-v4.0"}, lambda t: t["results"]),
        "jina": ("/v1/rerank", {**plain, "model": "jina"}, lambda t: t["results"]),
        "voyage": ("/v1/rerank", {**plain, "model": "voyage", "top_k": 2}, lambda t: t["data"]),
        "tei": ("/rerank", {"query": QUESTION, "texts": plain["documents"]}, lambda t: t),
    }
    for name, (path, body, ranked) in shapes.items():
        order = [one["index"] for one in ranked(service.ask_ok(path, body))]
        must(order == [1, 0], f"{name}: {path} ranks {order}, and document 1 answers")
    scores = service.ask_ok("/score", {"text_1": QUESTION, "text_2": DOCUMENTS})["data"]
    must(scores[0]["score"] > scores[1]["score"], f"/score: {scores}")
    return ", ".join(shapes) + ", score"


def errors(service: Service) -> str:
    """Wrong requests get an error message and the right status."""
    for body, want in (({"question": QUESTION}, 422), ({"question": "", "documents": ["a"]}, 422)):
        status, answer = service.ask("/v1/compress", body)
        must(status == want, f"{body} is answered with {status}")
        must(bool(answer["error"]["message"]), "an error without a message")
    must(service.ask("/nowhere")[0] == 404, "/nowhere exists")
    return "422, 404"


def about(service: Service) -> str:
    """The endpoints for operators answer."""
    for path in ("/livez", "/readyz", "/version", "/info", "/v1/models", "/openapi.json", "/"):
        service.ask_ok(path)
    must("tamis_requests_total" in service.ask_ok("/metrics"), "/metrics lacks the requests")
    return str(service.ask_ok("/version")["version"])


CHECKS = (about, compress, many_questions, explain, rerank, errors)


def wait_until_ready(service: Service, seconds: float) -> None:
    """Waits until it is ready; raises OSError if it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if service.ask("/readyz")[0] == 200:
                return
            failure: OSError = OSError("it is not ready")
        except OSError as error:
            failure = error
        if time.monotonic() >= deadline:
            raise failure
        time.sleep(0.5)


def run_checks(service: Service) -> Iterator[tuple[bool, str]]:
    """Runs each check: whether it passed, and a line about it."""
    for check in CHECKS:
        began = time.monotonic()
        try:
            summary = check(service)
        except (Broken, KeyError, IndexError, TypeError) as error:
            yield False, f"FAIL {check.__name__:15} {type(error).__name__}: {error}"
        else:
            yield True, f"ok   {check.__name__:15} {summary} ({time.monotonic() - began:.2f} s)"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="where the service is, such as http://localhost:8080")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait until it is ready")
    given = parser.parse_args()
    service = Service(given.url, os.environ.get("TAMIS_API_KEY"))
    try:
        wait_until_ready(service, given.wait)
        found = list(run_checks(service))
    except OSError as error:
        sys.stderr.write(f"smoke: {given.url} cannot be reached: {error}; is the service up?\n")
        return 2
    sys.stdout.write("".join(f"{line}\n" for _, line in found))
    return 0 if all(good for good, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
