"""The requests whose answers are recorded: data alone, made of the example pages.

A row has a name, a kind, which says what `record.Session` does with it, and what is sent. Rows that
are marked `quick` are replayed by `make test`. A row stands for one way in or one rule: the kind
`library` calls `tamis.compress`, `http` sends to one of the services of `SERVICES`, `cli` runs a
command in a folder with the files of `FILES`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.service.http.conversation_kit import ASKS, LOG, ROWS, anthropic, call, result

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "May allow_origins be a wildcard when allow_credentials is True?"
OTHER_QUESTION = "How long do browsers cache CORS responses by default?"


def _sections(page: str) -> list[str]:
    """The sections of a page of Markdown, each with its heading."""
    text = (EXAMPLES / "fastapi-docs" / page).read_text("utf-8")
    return [part.strip() for part in re.split(r"(?m)^(?=#+ )", text) if part.strip()]


def _paragraphs(page: str, least: int, count: int) -> list[str]:
    """The first paragraphs of prose that have at least so many characters."""
    text = (EXAMPLES / "fastapi-docs" / page).read_text("utf-8")
    found = [part for part in text.split("\n\n") if len(part) >= least and "```" not in part]
    return found[:count]


_CORS = _sections("cors.md")
_MIDDLEWARE = next(part for part in _CORS if "None of `allow_origins`" in part)
_TAIL = _MIDDLEWARE[_MIDDLEWARE.index("* `allow_credentials`") :]
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "origin", "title": "Origin", "text": next(p for p in _CORS if "## Origin" in p)},
    {"id": "middleware", "title": "Use CORSMiddleware", "text": _TAIL},
    {"id": "simple", "title": "Simple requests", "text": next(p for p in _CORS if "### Sim" in p)},
    {"id": "data", "title": "WebSockets", "text": _paragraphs("websockets.md", 90, 1)[0]},
]
TEXTS = [document["text"] for document in DOCUMENTS]
MANY = _paragraphs("features.md", 70, 14)
PAGE = (EXAMPLES / "postgresql-docs/datatype-numeric.html").read_text("utf-8")
_BODY = PAGE[PAGE.index("<body") :][:4000]
HTML = f"<html><title>Numeric</title>{_BODY}</html>"
KEPT = TEXTS[0].replace("So, all these", "<keep>So</keep>, all these")
WITH_METADATA = [{"text": TEXTS[0], "metadata": {"topic": "wildcards", "year": 2023}}, *TEXTS[1:]]
GERMAN = ["Schlüssel werden alle 90 Tage gewechselt. Die Räume sind blau. Niemand weiß, warum."] * 2
HARD_TEXT = "\U0001f600 e\u0301 \u202eabc\u202c\tEnd. A wildcard \U0001f600 is not allowed. Ok.\r\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One request.

    Attributes:
        spec: what is sent; of JSON values alone. With `after`, the name of a row that goes before.
        quick: whether `make test` replays it.
    """

    name: str
    kind: str
    spec: dict[str, Any]
    quick: bool = False


SERVICES: dict[str, dict[str, Any]] = {
    "plain": {
        "cache_bytes": 0,
        "retrieve_bytes": 1 << 20,
        "indexes": ("docs={folder}/docs.index",),
    },
    "cached": {"result_cache_mb": 4},
    "isolated": {"isolated": True, "cache_bytes": 0, "gate": False, "cascade": False},
    "limited": {
        "method": "lexical",
        "api_keys": ("team:0123456789abcdef",),
        "max_documents": 3,
        "max_question_chars": 64,
        "max_request_tokens": 200,
        "max_body_bytes": 4096,
        "max_inputs": 2,
    },
    "upstream": {
        "method": "lexical",
        "upstream": "{upstream}/v1",
        "upstream_retrieval_tags": ("context",),
    },
    "base": {"proxy": "smollm2-135m", "method": "sentinel", "cache_bytes": 0},
    "rated": {"method": "lexical", "api_keys": ("team:0123456789abcdef",), "rate_limit": "1/hour"},
}
"""The settings of each service that rows are sent to."""

BATCH_ROWS = [
    {"id": "a", "query": QUESTION, "documents": DOCUMENTS[:2], "own": 1},
    {"id": "b", "query": OTHER_QUESTION, "documents": TEXTS[1:3]},
    {"id": "c", "query": "What is an origin?", "context": TEXTS[0]},
    {"id": "broken", "documents": TEXTS[:1]},
]
FILES: dict[str, str] = {
    "docs/origin.md": TEXTS[0],
    "docs/middleware.md": TEXTS[1],
    "docs/simple.md": TEXTS[2],
    "page.html": HTML,
    "request.json": json.dumps({"question": QUESTION, "documents": DOCUMENTS}),
    "rows.jsonl": "".join(f"{json.dumps(row)}\n" for row in BATCH_ROWS),
    "corpus.jsonl": "".join(
        f"{json.dumps({'id': d['id'], 'title': d['title'], 'text': d['text'], 'n': n})}\n"
        for n, d in enumerate(DOCUMENTS)
    ),
    "broken.json": "{not json",
    "event.json": json.dumps(
        {
            "session_id": "s",
            "transcript_path": "/nowhere",
            "cwd": "/nowhere",
            "hook_event_name": "PostToolUse",
            "tool_name": "Bash",
            "tool_input": {"command": "pytest"},
            "tool_response": {"stdout": LOG, "stderr": "", "interrupted": False},
        }
    ),
}
"""The files of the folder that commands run in."""

_rows: list[Row] = []


def _add(kind: str, name: str, quick: bool = False, **spec: Any) -> None:
    _rows.append(Row(f"{kind}: {name}", kind, spec, quick))


def _library(name: str, quick: bool = False, documents: Any = None, **arguments: Any) -> None:
    question = arguments.pop("question", QUESTION)
    given = DOCUMENTS if documents is None else documents
    if not any(b in arguments for b in ("max_tokens", "ratio", "threshold", "coverage")):
        arguments["max_tokens"] = 60
    _add("library", name, quick, question=question, documents=given, arguments=arguments)


def _rerank(name: str, quick: bool = False, documents: Any = None, **arguments: Any) -> None:
    given = DOCUMENTS if documents is None else documents
    _add("rerank", name, quick, question=QUESTION, documents=given, arguments=arguments)


def _post(
    path: str, name: str, body: Any = None, quick: bool = False, to: str = "plain", **more: Any
) -> None:
    _add(
        "http", f"{path} {name}".strip(), quick, to=to, method="POST", path=path, json=body, **more
    )


def _get(path: str, quick: bool = False, to: str = "plain", **more: Any) -> None:
    name = more.pop("name", path)
    _add("http", f"GET {name}", quick, to=to, method="GET", path=path, **more)


def _compress(
    name: str, quick: bool = False, to: str = "plain", after: str = "", **fields: Any
) -> None:
    body = {"query": QUESTION, "documents": DOCUMENTS, "return": {"units": "all"}} | fields
    body = {name: value for name, value in body.items() if value is not None}
    if not any(b in body for b in ("max_tokens", "ratio", "threshold", "coverage", "adaptive")):
        body["max_tokens"] = 60
    more = {"after": f"http: /v1/compress {after}"} if after else {}
    _post("/v1/compress", name, body, quick, to, **more)


def _cli(name: str, *words: str, quick: bool = False, **more: Any) -> None:
    _add("cli", name, quick, words=list(words), **more)


# methods, by the library: all that score, all that rank, all that order
for method in (
    "question_rows",
    "ehpc",
    "embedding",
    "fusion",
    "infiniretri",
    "lead",
    "lexical",
    "raw_attention",
    "sentinel",
):
    _library(f"method {method}", method in ("question_rows", "lead", "lexical"), method=method)
for method in (
    *("corehead", "cross", "icr", "qrhead", "question_rows", "fusion", "embedding"),
    *("late_interaction", "lexical"),
):
    _rerank(f"method {method}", method == "lexical", method=method)
for order in ("original", "score", "edges", "attention_sorting", "attnrank", "found_in_the_middle"):
    _library(f"order {order}", order == "edges", rules={"order": order}, max_tokens=120)

# budgets
_library("max_tokens that everything fits in", True, max_tokens=5000)
_library("max_tokens of one", max_tokens=1)
_library("ratio", ratio=0.25)
_library("ratio 1", ratio=1.0)
_library("threshold", threshold=0.3)
_library("coverage", coverage=0.9)
_library("a limit and a floor", max_tokens=80, coverage=0.95)
_library("ratio and threshold", ratio=0.5, threshold=0.05)
_library("lexical ratio", True, method="lexical", ratio=0.3)
_library("lexical has no coverage", method="lexical", coverage=0.9)

# rules
for name, rules in {
    "protect": {"protect": [r"`600`", "localhost:8080"]},
    "context_window": {"context_window": 1},
    "dedup": {"dedup": 0.3},
    "no dedup": {"dedup": None},
    "fill": {"fill": True},
    "separator": {"separator": "\n---\n"},
    "elision": {"elision": "…"},
    "citations": {"citations": "[{doc} {id} {unit}] "},
    "titles": {"titles": True},
    "top_n": {"top_n": 1},
    "keep_tags": {"keep_tags": True},
    "nothing if unanswerable": {"answerable_floor": 0.999, "unanswerable": "nothing"},
    "all if unanswerable": {"answerable_floor": 0.999, "unanswerable": "pass_through"},
    "best effort if unanswerable": {"answerable_floor": 0.999, "unanswerable": "best_effort"},
    "granularity block": {"granularity": "block"},
    "granularity document": {"granularity": "document"},
    "read_metadata": {"read_metadata": ["topic", "year"]},
}.items():
    given = [KEPT, *TEXTS[1:]] if name == "keep_tags" else None
    given = [TEXTS[1], TEXTS[1], TEXTS[0]] if "dedup" in name else given
    given = WITH_METADATA if name == "read_metadata" else given
    _library(f"rule {name}", documents=given, rules=rules, max_tokens=110)
    _library(f"rule {name}, lexical", True, given, method="lexical", rules=rules, max_tokens=110)
_library("rule granularity token", method="ehpc", form="token", rules={"granularity": "token"})

# options of the default method, and what it reads
_library("isolated", isolated=True)
_library("without the encoder", use_encoder=False)
_library("without a probe", probe=None)
for name, options in {
    "gate": {},
    "no gate": {"gate": False},
    "no cascade": {"cascade": False},
}.items():
    _library(name, documents=[*MANY, TEXTS[1]], question=OTHER_QUESTION, **options)
_library("the plain proxy", proxy="smollm2-135m")
_library("quality best has no effect", quality="best")
_library("quality fast", quality="fast")
_library(
    "instruction and history", instruction="Only rules.", history=["What is CORS?", "An origin."]
)
_library("tokenizer estimate", tokenizer="estimate")
_library("HTML", documents=[{"text": HTML, "format": "html"}], question="Which types are integers?")
_library("raw HTML warns", documents=[HTML], question="Which types are integers?", method="lexical")
_library("German", documents=GERMAN, question="Wie oft werden Schlüssel gewechselt?", max_tokens=20)
_library("characters of two units", documents=[HARD_TEXT], method="lexical", max_tokens=12)
_library("a document of nothing", documents=["", "  ", TEXTS[2]], max_tokens=40)
_library("no documents", documents=[], method="lexical")
_rerank("top_n", top_n=2)
_rerank("without a rank probe", rank_probe=None)
_rerank("first stage in order", first_stage="order")
_rerank("first stage, fused by ranks", method="lexical", first_stage=[3, 1, 2, 0], fuse="rrf")
_rerank("first stage, fused by a weight", method="lexical", first_stage=[3, 1, 2, 0], fuse=0.3)
_rerank("many", documents=MANY)
_rerank("an order is no ranking", method="edges")

# errors of the library
for name, wrong in {
    "no budget below 1": {"max_tokens": 0},
    "two limits": {"max_tokens": 5, "ratio": 0.5},
    "two floors": {"threshold": 0.5, "coverage": 0.5},
    "ratio of 2": {"ratio": 2.0},
    "unknown method": {"method": "lexicl"},
    "unknown tokenizer": {"tokenizer": "gpt-9"},
    "unknown option": {"isolatd": True},
    "unknown rule": {"rules": {"seperator": "x"}},
    "bad pattern": {"rules": {"protect": ["("]}},
    "bad citation": {"rules": {"citations": "{doc.x}"}},
    "budget too small for protect": {"rules": {"protect": ["localhost"]}, "max_tokens": 3},
    "unknown proxy": {"proxy": "nobody/nothing"},
    "proxy not here": {"proxy": "gemma3-270m"},
    "unknown language": {"language": "klingon"},
    "blank question": {"question": " "},
    "documents of numbers": {"documents": [1, 2]},
}.items():
    _library(f"error {name}", name.startswith(("two", "unknown r")), **wrong)

# what tools print
_add("tool", "a log", True, text=LOG, arguments={"question": ASKS["content"], "call": "pytest"})
_add(
    "tool",
    "a log, read",
    text=LOG,
    arguments={"question": ASKS["content"], "method": "question_rows", "max_tokens": 150},
)
_add(
    "tool", "JSON", True, text=json.dumps(ROWS[70:90]), arguments={"question": "Who is suspended?"}
)
_add("tool", "an error", text=LOG, arguments={"ratio": 0.0})

# ask_context, over an index that a command builds
_add("ask", "default", question=QUESTION, arguments={"max_tokens": 80})
_add(
    "ask",
    "words alone",
    True,
    question=QUESTION,
    arguments={"max_tokens": 80, "by": ["bm25"], "method": "lexical", "top_k": 2},
)
_add("ask", "where", question=QUESTION, arguments={"where": ["n<2"], "method": "lexical"})
_add("ask", "error", question=QUESTION, arguments={"max_tokens": 0})

# /v1/compress, in our own dialect
_compress("default", True)
for method in (
    "ehpc",
    "embedding",
    "fusion",
    "infiniretri",
    "lead",
    "lexical",
    "raw_attention",
    "sentinel",
):
    _compress(f"method {method}", method in ("lead", "lexical"), model=method)
_compress("ratio", method="lexical", ratio=0.3)
_compress("threshold", threshold=0.2)
_compress("coverage", coverage=0.9)
_compress("adaptive", adaptive={"min_ratio": 2.0, "max_ratio": 8.0})
# by the names of today; all other requests are sent as they were when they were recorded first
_compress("question", True, query=None, question=QUESTION, method="lexical")
_compress("questions", query=None, questions=[QUESTION, OTHER_QUESTION], method="lexical")
_compress("queries", query=None, queries=[QUESTION, OTHER_QUESTION], method="lexical")
_compress(
    "protect", True, method="lexical", protect={"regex": ["8080"], "numbers": True, "urls": True}
)
_compress(
    "keep and min_tokens",
    method="lexical",
    documents=[
        {**DOCUMENTS[0], "keep": [[0, 9]]},
        {**DOCUMENTS[2], "min_tokens": 20},
        DOCUMENTS[1],
    ],
    max_tokens=90,
)
_compress(
    "rules",
    True,
    method="lexical",
    separator=" | ",
    citations="({id})",
    titles=True,
    elision="…",
    order="score",
    context_window=1,
    max_tokens=120,
)
_compress("order of a method", order="attention_sorting", max_tokens=120)
_compress("granularity", granularity="block", max_tokens=120)
_compress("unanswerable", answerable_floor=0.999, unanswerable="nothing")
_compress("HTML", documents=[{"text": HTML, "format": "html"}], query="Which types are integers?")
_compress("shadow", method="lexical", shadow=True)
_compress("return little", method="lexical", **{"return": {"spans": False, "documents": False}})
_compress("return no text", method="lexical", **{"return": {"text": False, "units": "kept"}})
for unit in ("utf8", "utf16", "codepoint"):
    _compress(
        f"offsets in {unit}",
        method="lexical",
        offset_unit=unit,
        documents=["\U0001f600 é. " + TEXTS[1]],
    )
_compress("instruction and history", instruction="Only rules.", history=["What is CORS?"])
_compress("tokenizer estimate", method="lexical", tokenizer="estimate")
_compress("the plain proxy's sentinel", to="base")
_compress("gate", documents=[*MANY, TEXTS[1]], query=OTHER_QUESTION)
_compress("no gate, isolated", to="isolated", documents=[*MANY, TEXTS[1]], query=OTHER_QUESTION)
_compress("isolated", to="isolated")
_compress("with a cache, first", to="cached")
_compress("with a cache, the same", to="cached", after="with a cache, first")
_compress(
    "with a cache, another question",
    to="cached",
    after="with a cache, the same",
    query=OTHER_QUESTION,
)
_post(
    "/v1/compress/batch",
    "",
    {
        "inputs": [
            {"query": QUESTION, "documents": TEXTS, "max_tokens": 60, "method": "lexical"},
            {"query": QUESTION, "documents": TEXTS[:1], "max_tokens": 60},
            {"query": QUESTION, "documents": TEXTS, "max_tokens": 60, "method": "lexicl"},
        ]
    },
    True,
)
_post(
    "/v1/explain",
    "",
    {"query": QUESTION, "documents": DOCUMENTS, "max_tokens": 60, "selections": 6},
)
_post(
    "/v1/explain",
    "lexical",
    {"query": QUESTION, "documents": DOCUMENTS, "ratio": 0.3, "method": "lexical"},
    True,
)
_post(
    "/v1/expand",
    "",
    {"documents": DOCUMENTS, "spans": [{"index": 0, "start": 80, "end": 90}]},
    True,
)
_post("/v1/highlight", "", {"question": QUESTION, "context": TEXTS[1], "threshold": 0.1})
_post(
    "/v1/highlight", "inputs", {"inputs": [{"question": QUESTION, "context": t} for t in TEXTS[:2]]}
)
_post("/v1/search", "", {"query": QUESTION, "k": 3})
_post(
    "/v1/tools/rank",
    "",
    {
        "question": QUESTION,
        "tools": [{"name": f"tool_{i}", "description": text} for i, text in enumerate(TEXTS)],
        "top_n": 2,
    },
)
_post("/v1/search", "question", {"question": QUESTION, "k": 2, "by": ["bm25"]}, True)
_post("/v1/search", "words", {"query": QUESTION, "k": 2, "by": ["bm25"], "where": {"n": 1}}, True)
_post(
    "/v1/search",
    "exact",
    {"query": QUESTION, "k": 2, "by": ["keys"], "search": "exact", "index": "docs"},
)

# the token company, Headroom, and texts that can be had again
_SAFE = f"<ttc_safe>{TEXTS[0][:40]}</ttc_safe>{TEXTS[0][40:]} {TEXTS[1]}"
_post(
    "/v1/compress",
    "input",
    {"input": _SAFE, "query": QUESTION, "compression_settings": {"aggressiveness": 0.6}},
)
_post("/v1/compress", "input without a question", {"input": TEXTS[0]})
_TALK = [ASKS, call("bash", {"command": "pytest"}), result(LOG)]
_post("/v1/compress", "messages", {"messages": _TALK, "method": "lexical"}, True)
_post("/v1/compress", "messages, read", {"messages": _TALK, "token_budget": 400})
_post(
    "/v1/compress",
    "messages of Anthropic",
    {
        "messages": [ASKS, *anthropic(LOG, "bash", {"command": "pytest"})],
        "model": "lexical",
        "ratio": 0.3,
    },
)
_post(
    "/v1/compress",
    "messages, kept",
    {"messages": _TALK, "method": "lexical", "config": {"mode": "ccr", "target_ratio": 0.2}},
)
_KEPT = "http: /v1/compress messages, kept"
_get("/v1/retrieve/{hash}", after=_KEPT, hash_of=_KEPT)
_get(
    "/v1/retrieve/{hash}?lines=3-5",
    name="retrieve lines",
    after="http: GET /v1/retrieve/{hash}",
    hash_of=_KEPT,
)
_get(
    "/v1/retrieve/{hash}?query=rotation&max_tokens=90",
    name="retrieve by query",
    after="http: GET retrieve lines",
    hash_of=_KEPT,
)
_get(
    "/v1/retrieve/{hash}?question=rotation&max_tokens=90",
    name="retrieve by question",
    after="http: GET retrieve by query",
    hash_of=_KEPT,
)
_get("/v1/retrieve/0123456789abcdef01234567", name="retrieve nothing")
_post("/v1/compress", "messages with documents", {"messages": _TALK, "documents": TEXTS})
_post(
    "/v1/compress",
    "messages with tags",
    {
        "messages": [{"role": "user", "content": f"<context>{TEXTS[1]}</context> {QUESTION}"}],
        "method": "lexical",
        "ratio": 0.4,
        "config": {"retrieval_tags": ["context"], "min_tokens_to_compress": 10},
    },
)

# rerank, in every dialect
_ASKED = {"query": QUESTION, "documents": TEXTS}
_LEXICAL = _ASKED | {"model": "lexical"}
_post(
    "/v2/rerank",
    "Cohere",
    {
        **_ASKED,
        "model": "default",
        "top_n": 3,
        "relevant_spans": {"mode": "enabled", "max_spans": 2},
    },
)
_post(
    "/v2/rerank",
    "Cohere, other fields",
    {**_LEXICAL, "max_tokens_per_doc": 9, "return_documents": True, "x": 1},
    True,
)
_post("/v2/rerank", "Cohere, icr", {**_ASKED, "model": "icr"})
_post("/v2/rerank", "Cohere, corehead", {**_ASKED, "model": "corehead"})
_post("/v2/rerank", "Cohere, qrhead", {**_ASKED, "model": "qrhead"})
_post(
    "/v2/rerank",
    "Cohere, spans without sentences",
    {**_ASKED, "model": "icr", "relevant_spans": {"mode": "enabled"}},
)
_post(
    "/v2/rerank",
    "rank_fields",
    {
        "query": QUESTION,
        "documents": DOCUMENTS,
        "rank_fields": ["title", "text"],
        "model": "lexical",
    },
)
_post("/v1/rerank", "Jina", {**_ASKED, "model": "default", "top_n": 2})
_post("/v1/rerank", "Jina, lexical", _LEXICAL, True)
_post("/v1/rerank", "Cohere v1", {**_LEXICAL, "max_chunks_per_doc": 3, "return_documents": True})
_post("/v1/rerank", "Cohere v1 by its agent", _LEXICAL, headers={"user-agent": "cohere-python/5"})
_post("/v1/rerank", "infinity", {**_LEXICAL, "raw_scores": True})
_post(
    "/v1/rerank",
    "Voyage",
    {**_LEXICAL, "top_k": 2, "truncation": True, "return_documents": True},
    True,
)
_post("/v1/rerank", "Voyage by its model", {**_ASKED, "model": "rerank-2.5"})
_post("/v1/rerank", "SGLang", {**_LEXICAL, "instruct": "Find rules."})
_post(
    "/v1/rerank",
    "LibreChat",
    {
        "query": QUESTION,
        "candidates": [{"id": i, "text": t, "base_score": 0.1} for i, t in enumerate(TEXTS)],
        "profile": "p",
        "model": "lexical",
    },
    True,
)
for path in (
    "/v1/reranking",
    "/v1/reranks",
    "/reranks",
    "/compatible-api/v1/reranks",
    "/infinity/rerank",
    "/infinity/v1/rerank",
    "/reranking",
    "/rerank",
    "/inference/v1/rerank",
):
    _post(path, "", _LEXICAL, path == "/infinity/rerank")
_TEI = {"query": QUESTION, "texts": TEXTS}
_post("/rerank", "TEI", {**_TEI, "return_text": True})
_post("/rerank", "TEI, raw scores", {**_TEI, "raw_scores": True, "truncate": True}, True)
_post("/rerank", "TEI, nothing", {"query": QUESTION, "texts": []})
_post("/predict", "one pair", {"inputs": [QUESTION, TEXTS[1]]})
_post("/predict", "pairs", {"inputs": [[QUESTION, t] for t in TEXTS[:2]], "raw_scores": True})
_post("/invocations", "", {"query": QUESTION, "documents": TEXTS[:2]})
_post("/score", "vLLM", {"model": "default", "text_1": QUESTION, "text_2": TEXTS})
_post(
    "/score",
    "pairs",
    {"model": "lexical", "queries": [QUESTION, OTHER_QUESTION], "documents": TEXTS[:2]},
)
_post("/v1/score", "", {"model": "lexical", "data_1": QUESTION, "data_2": TEXTS[0]}, True)
_post(
    "/v1/ranking",
    "NIM",
    {
        "model": "lexical",
        "query": {"text": QUESTION},
        "passages": [{"text": t} for t in TEXTS],
        "truncate": "END",
    },
    True,
)
_post(
    "/v1/retrieval/lexical/reranking",
    "NIM",
    {"query": {"text": QUESTION}, "passages": [{"text": t} for t in TEXTS]},
)
_post("/v1/inference/lexical", "DeepInfra", {"queries": [QUESTION], "documents": TEXTS})
_post("/inference/lexical", "DeepInfra", {"queries": [QUESTION] * 4, "documents": TEXTS})
_post("/rerank", "isolated", {**_TEI, "return_text": False}, to="isolated")

# about the service
for path in (
    "/livez",
    "/readyz",
    "/health",
    "/ping",
    "/version",
    "/models",
    "/v1/models",
    "/v1/models/lexical",
    "/v1/cluster/auth",
    "/info",
    "/metrics",
    "/openapi.json",
    "/v1/progress/unknown",
    "/",
):
    _get(path, path in ("/livez", "/openapi.json", "/v1/models", "/info"))
_post("/tokenize", "vLLM", {"prompt": TEXTS[0]})
_post("/tokenize", "TEI", {"inputs": TEXTS[2:], "model": "m"})

# errors of the service, each kind in its dialect
_post("/v1/compress", "no JSON", None, True, content="{no")
_post("/v1/compress", "empty body", None, content="")
_post(
    "/v1/compress",
    "no JSON by its type",
    None,
    content="a=b",
    headers={"content-type": "text/plain"},
)
for name, wrong in {
    "an unknown field": {"max_token": 5},
    "a setting": {"queue_tokens": 5},
    "a wrong type": {"max_tokens": "5"},
    "two limits": {"max_tokens": 5, "ratio": 0.5},
    "adaptive and a limit": {"max_tokens": 5, "adaptive": {}},
    "an unknown method": {"model": "lexicl"},
    "an unknown tokenizer": {"tokenizer": "gpt-9"},
    "a bad pattern": {"protect": {"regex": ["("]}},
    "a budget too small": {"protect": {"regex": ["localhost"]}, "max_tokens": 3},
    "a blank question": {"query": " "},
    "query and queries": {"queries": ["a"]},
    "two names": {"question": "Is it another?"},
    "a span outside": {"documents": [{"text": "Short.", "keep": [[0, 99]]}]},
    "not passed through": {
        "method": "lexical",
        "on_error": "passthrough",
        "protect": {"regex": ["localhost"]},
        "max_tokens": 3,
    },
}.items():
    _compress(f"error {name}", name in ("an unknown field", "not passed through"), **wrong)
_post("/v2/rerank", "error of Cohere", {"query": "", "documents": TEXTS}, True)
_post("/v1/rerank", "error of Jina", {"query": QUESTION})
_post("/v1/rerank", "no text", {"query": QUESTION, "documents": [{"title": "t"}]})
_post("/rerank", "error of TEI", {"query": 5, "texts": TEXTS})
_post("/predict", "error of TEI", {"inputs": []})
_post("/score", "lengths differ", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
_post("/v1/search", "unknown index", {"query": QUESTION, "index": "others"})
_post("/v1/search", "bad condition", {"query": QUESTION, "where": "n~~1"})
_post("/v1/expand", "outside", {"documents": TEXTS, "spans": [{"index": 9, "start": 0, "end": 1}]})
_post("/v1/highlight", "both forms", {"question": "a", "context": "b", "inputs": []})
_get("/v1/nothing")
_get("/v1/compress")
_get("/v1/models/nobody")
_KEY = {"authorization": "Bearer 0123456789abcdef"}
_post("/v1/compress", "without a key", {"query": QUESTION, "documents": TEXTS[:1]}, to="limited")
_post(
    "/v1/compress",
    "with a wrong key",
    {"query": QUESTION, "documents": TEXTS[:1]},
    to="limited",
    headers={"authorization": "Bearer wrong"},
)
_post(
    "/v1/compress",
    "with a key",
    {"query": QUESTION, "documents": TEXTS[:1], "max_tokens": 40},
    to="limited",
    headers=_KEY,
)
_post(
    "/v1/compress",
    "too many documents",
    {"query": QUESTION, "documents": ["a"] * 4},
    to="limited",
    headers=_KEY,
)
_post(
    "/v1/compress",
    "a long question",
    {"query": "why " * 20, "documents": ["a"]},
    to="limited",
    headers=_KEY,
)
_post(
    "/v1/compress",
    "too many tokens",
    {"query": QUESTION, "documents": ["a b " * 400]},
    to="limited",
    headers=_KEY,
)
_post(
    "/v1/compress",
    "a large body",
    {"query": QUESTION, "documents": ["a" * 5000]},
    to="limited",
    headers=_KEY,
)
_post(
    "/rerank",
    "a large body to TEI",
    {"query": QUESTION, "texts": ["a" * 5000]},
    to="limited",
    headers=_KEY,
)

_post("/v2/rerank", "the only one of an hour", _ASKED, to="rated", headers=_KEY)
_post(
    "/v2/rerank",
    "too many in an hour",
    _ASKED,
    to="rated",
    headers=_KEY,
    after="http: /v2/rerank the only one of an hour",
)

# chats that are sent on to a stand-in of the upstream service
_CHAT = {"model": "m", "messages": [{"role": "user", "content": ASKS["content"]}, *_TALK[1:]]}
_post("/v1/chat/completions", "", _CHAT, to="upstream")
_post("/v1/chat/completions", "off", _CHAT, to="upstream", headers={"x-tamis": "off"})
_post("/v1/chat/completions", "a ratio", _CHAT, to="upstream", headers={"x-tamis-ratio": "0.1"})
_post("/v1/chat/completions", "a bad ratio", _CHAT, to="upstream", headers={"x-tamis-ratio": "9"})
_post("/v1/chat/completions", "refused there", {**_CHAT, "fail_with": 429}, to="upstream")
_post(
    "/v1/chat/completions",
    "retrieved",
    {
        "model": "m",
        "messages": [
            {"role": "user", "content": f"<context>{' '.join(TEXTS * 2)}</context> {QUESTION}"}
        ],
    },
    to="upstream",
)
_post(
    "/v1/messages",
    "Anthropic",
    {
        "model": "m",
        "max_tokens": 9,
        "system": "Be brief.",
        "messages": [ASKS, *anthropic(LOG, "bash", {"command": "pytest"})],
    },
    to="upstream",
)
_get("/v1/files", to="upstream")

# the command line
_Q = ("-q", QUESTION)
_cli("compress", "compress", "docs", *_Q, "--max-tokens", "60", "--json")
_cli(
    "compress text",
    "compress",
    "docs",
    *_Q,
    "--max-tokens",
    "60",
    "--method",
    "lexical",
    quick=True,
)
_cli(
    "compress, rules",
    "compress",
    "request.json",
    "--method",
    "lexical",
    "--max-tokens",
    "110",
    "--citations",
    "({id}) ",
    "--titles",
    "--separator",
    r"\n--\n",
    "--elision",
    "…",
    "--order",
    "score",
    "--context-window",
    "1",
    "--protect-numbers",
    "--quiet",
    quick=True,
)
_cli("compress, explained", "compress", "request.json", "--max-tokens", "60", "--explain-all")
_cli(
    "compress, gate off",
    "compress",
    "request.json",
    "--gate",
    "off",
    "--no-cascade",
    "--isolated",
    "--coverage",
    "0.8",
    "--json",
    "--quiet",
)
_cli(
    "compress, a page",
    "compress",
    "page.html",
    "-q",
    "Which types are integers?",
    "--ratio",
    "0.2",
    "--method",
    "lexical",
    "--html",
    "heat.html",
    outputs=["heat.html"],
)
_cli(
    "compress, standard input",
    "compress",
    "-",
    *_Q,
    "--ratio",
    "0.3",
    "--method",
    "lexical",
    stdin=TEXTS[1],
)
_cli("rerank", "rerank", "request.json", "--json", "--quiet")
_cli(
    "rerank, fused",
    "rerank",
    "request.json",
    "--method",
    "lexical",
    "--first-stage",
    "order",
    "--fuse",
    "rrf",
    quick=True,
)
_cli("pipe", "pipe", "-q", "Why does it fail?", "--command", "pytest", stdin=LOG, quick=True)
_cli("pipe, short", "pipe", stdin="nothing to do\n")
_cli("pipe, bad option", "pipe", "--ratio", "7", stdin=LOG)
_cli("hook", "hook", "claude-code", stdin=FILES["event.json"], quick=True)
_cli("hook settings", "hook", "claude-code", "--print-settings")
_cli("index build", "index", "build", "corpus.jsonl", "-o", "own.index")
_cli("index build, words", "index", "build", "docs", "-o", "words.index", "--no-model", quick=True)
_cli("index search", "index", "search", "docs.index", *_Q, "--json")
_cli("index verify", "index", "verify", "docs.index")
_cli("ask-context", "ask-context", "docs.index", *_Q, "--max-tokens", "80", "--json")
_cli("ask-context text", "ask-context", "docs.index", *_Q, "--method", "lexical")
_cli(
    "batch run",
    "batch",
    "run",
    "rows.jsonl",
    "-o",
    "out",
    "--max-tokens",
    "50",
    "--quiet",
    outputs=["out/part-000000.jsonl"],
)
_cli(
    "batch run, lexical",
    "batch",
    "run",
    "rows.jsonl",
    "-o",
    "out2",
    "--ratio",
    "0.3",
    "--method",
    "lexical",
    "--only-kept",
    "--prefix",
    "t_",
    "--part-rows",
    "2",
    quick=True,
    outputs=["out2/part-000000.jsonl", "out2/part-000001.jsonl"],
)
_cli(
    "batch run, dry", "batch", "run", "rows.jsonl", "-o", "out3", "--dry-run", "--method", "lexical"
)
_cli("methods", "methods", quick=True)
_cli("version", "--version")
for name, words in {
    "no question": ("compress", "docs"),
    "no file": ("compress", "nowhere.md", *_Q),
    "no JSON": ("compress", "broken.json", *_Q),
    "two limits": ("compress", "docs", *_Q, "--max-tokens", "5", "--ratio", "0.5"),
    "unknown method": ("compress", "docs", *_Q, "--method", "lexicl"),
    "unknown option": ("compress", "docs", *_Q, "--max-token", "5"),
    "unknown command": ("compres",),
    "no index": ("ask-context", "nowhere.index", *_Q),
    "no batch": ("batch", "run", "nowhere.jsonl", "-o", "out4"),
    "index there": ("index", "build", "docs", "-o", "docs.index"),
}.items():
    _cli(f"error {name}", *words)

# LangChain
for name, fields in {
    "TamisCompressor": {"max_tokens": 60},
    "TamisCompressor, lexical": {
        "max_tokens": 80,
        "method": "lexical",
        "order": "score",
        "top_n": 2,
        "title_key": "title",
    },
    "TamisCompressor, shadow": {"ratio": 0.3, "method": "lexical", "shadow": True},
    "TamisCompressor, error": {"max_tokens": 5, "ratio": 0.5},
    "TamisDocumentTransformer": {"max_tokens": 60, "method": "lexical", "query": QUESTION},
    "TamisCrossEncoder": {},
    "TamisRetriever": {"max_tokens": 60, "method": "lexical", "index": "{folder}/docs.index"},
}.items():
    _add(
        "langchain",
        name,
        name == "TamisCompressor, lexical",
        adapter=name.partition(",")[0],
        fields=fields,
        question=QUESTION,
        documents=DOCUMENTS,
    )
_add("help", "every command")

REQUESTS: tuple[Row, ...] = tuple(_rows)
