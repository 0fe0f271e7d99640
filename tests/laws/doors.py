"""The doors of tamis, one request through each: what each calls a field, and what it answers.

`FIELDS` is the table: a field of a request by door. A door that lacks a field is not asked for it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

import tamis
from tamis.compressors.pipeline.compression import per_passage
from tamis.compressors.rules import RULES, Rules
from tamis.compressors.types import Compressed, to_probability
from tamis.langchain import TamisCompressor, TamisCrossEncoder
from tamis.probes.errors import TamisError
from tamis.service.api.compress import counter_of
from tests.service.batch.kit import read_rows, write_lines
from tests.service.cli.cli_kit import tamis as run_command
from tests.service.http.app_kit import Running

DOORS = ("library", "command", "http", "batch", "langchain", "remote")
"""`remote` is the adapter of LangChain with `base_url`: it comes in by the HTTP client."""

_SAME = dict.fromkeys(DOORS, "")
"""Every door has the field, by its own name."""


def _but(*doors: str) -> dict[str, str]:
    return {door: "" for door in DOORS if door not in doors}


FIELDS: dict[str, dict[str, str]] = {
    "question": _SAME,
    "documents": _SAME,
    "title": {**_SAME, "langchain": "title_key", "remote": "title_key"},
    "id": _SAME,
    # adapters read the text and the title of a document: its metadata stay here
    "keep": _but("langchain", "remote"),
    "min_tokens": _but("langchain", "remote"),
    "max_tokens": _SAME,
    "ratio": _SAME,
    "threshold": _SAME,
    "coverage": _SAME,
    # a chain has a query alone: LangChain's interface has no place for a turn of its own
    "instruction": _but("langchain", "remote"),
    "history": {**_but("langchain", "remote"), "batch": "--history-field"},
    "method": _SAME,
    "tokenizer": _SAME,
    "language": _SAME,
    "protect": {**_SAME, "http": "protect.regex"},
    "context_window": _SAME,
    "dedup": _SAME,
    "fill": _SAME,
    "order": _SAME,
    "separator": _SAME,
    "elision": _SAME,
    # what stands beside a document's text is its metadata, for the chain to show
    "citations": _but("langchain", "remote"),
    "titles": _but("langchain", "remote"),
    "keep_tags": _but("langchain", "remote"),
    "top_n": _SAME,
    "answerable_floor": _SAME,
    "unanswerable": {**_SAME, "command": "--if-unanswerable", "batch": "--if-unanswerable"},
    "granularity": _SAME,
    "read_metadata": _SAME,
}  # fmt: skip
RULE_NAMES = tuple(rule.name for rule in RULES)
BUDGETS = ("max_tokens", "ratio", "threshold", "coverage")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, in no door's words."""

    question: str
    documents: tuple[Mapping[str, Any], ...]
    budget: Mapping[str, Any]
    rules: Mapping[str, Any] = field(default_factory=dict)
    method: str = "lexical"
    tokenizer: str = "words"
    language: str = "auto"
    instruction: str | None = None
    history: tuple[str, ...] = ()

    def fields(self) -> set[str]:
        """The fields that it uses, by the names of the table."""
        used = {"question", "documents", "method", "tokenizer", *self.budget, *self.rules}
        used |= {name for document in self.documents for name in document} - {"text", "metadata"}
        more = ("instruction", "history")
        used |= {name for name in more if getattr(self, name)}
        return used | ({"language"} if self.language != "auto" else set())

    def doors(self) -> list[str]:
        """The doors that have all of these fields."""
        return [door for door in DOORS if all(door in FIELDS[name] for name in self.fields())]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A door's error, in its words."""

    message: str


Answer = dict[str, Any] | Refusal
"""What every door says of a request; a door says nothing of a key that it lacks."""


@dataclass(frozen=True, slots=True)
class House:
    """What all doors are opened with.

    Attributes:
        words: a tokenizer.json that counts words, which the service calls `words`.
        folder: for files. service: a running one.
        proxy: what reads: a name, or a reader where doors that take names alone are left out.
    """

    words: Path
    folder: Path
    service: Running
    proxy: Any = "auto"
    root: Path | None = None

    def tokenizer(self, call: Call) -> str:
        """The tokenizer as a door of this process has it."""
        return str(self.words) if call.tokenizer == "words" else call.tokenizer


def ask(door: str, call: Call, house: House) -> Answer:
    """The answer of one door."""
    return _ASK[door](call, house)


def _library(call: Call, house: House) -> Answer:
    tokenizer = house.tokenizer(call)
    try:
        rules = Rules(**{**call.rules, "protect": tuple(call.rules.get("protect", ()))})
        found = tamis.compress(
            call.question,
            call.documents,
            **call.budget,
            instruction=call.instruction,
            history=call.history,
            method=call.method,
            tokenizer=tokenizer,
            proxy=house.proxy,
            language=call.language,
            rules=rules,
            root=house.root,
        )
    except TamisError as error:
        return Refusal(str(error))
    return answer_of(found, rules, counter_of(tokenizer, house.proxy, house.root))


def answer_of(found: Compressed, rules: Rules, counter: Any) -> dict[str, Any]:
    """A compression as the answer of the library."""
    parts = per_passage(found, rules, counter)
    return {
        "text": found.text,
        "status": found.status,
        "tokens": (found.tokens_in, found.tokens_out),
        "warnings": list(found.warnings),
        "answerability": found.answerability,
        "verdict": found.verdict,
        "reason": found.reason,
        "calibrated": found.calibrated,
        "spans": [
            (kept.passage, kept.start, kept.stop, kept.score if found.scores else None)
            for kept in found.kept
        ],
        "raw scores": [part.raw_score for part in parts],
        "evidence": [part.evidence(found.calibrated) for part in parts],
        "texts": [part.text for part in parts],
        "counts": [(part.tokens_before, part.tokens_after) for part in parts],
        "ids": [passage.id for passage in found.passages],
        "shown": _passages_by_index(found, parts),
        "reading": (found.windows, found.tokens_read),
    }


def _passages_by_index(found: Compressed, parts: Sequence[Any]) -> dict[int, tuple[Any, ...]]:
    """What adapters say of a passage: text, joined spans, score and counts."""
    return {
        part.index: (
            part.text,
            [tuple(span) for span in found.spans(part.index)],
            None if part.score is None else part.evidence(found.calibrated),
            part.tokens_before,
            part.tokens_after,
        )
        for part in parts
        if part.text
    }


def _finite(score: float | None) -> float | None:
    return None if score in (float("inf"), float("-inf")) else score


def flags(call: Call) -> list[object]:
    """Budget and rules as options of the command line."""
    words: list[object] = []
    for name, value in {**call.budget, **call.rules}.items():
        flag = FIELDS[name]["command"] or f"--{name.replace('_', '-')}"
        match value:
            case bool():
                words += [flag] * value
            case list() | tuple():
                words += [word for one in value for word in (flag, one)]
            case None:
                pass
            case str() if name == "separator":
                words += [flag, value.replace("\n", "\\n").replace("\t", "\\t")]
            case _:
                words += [flag, value]
    return words


def _options(call: Call, house: House) -> list[object]:
    """The options that both commands have."""
    root = () if house.root is None else ("--home", house.root)
    words = ["--method", call.method, "--tokenizer", house.tokenizer(call), *root, "--offline"]
    words += ["--language", call.language, *flags(call)]
    return [*words, *(("--instruction", call.instruction) if call.instruction else ())]


def _command(call: Call, house: House) -> Answer:
    file = house.folder / "request.json"
    file.write_text(json.dumps({"question": call.question, "documents": call.documents}))
    history = [word for turn in call.history for word in ("--history", turn)]
    done = run_command("compress", file, "--json", *_options(call, house), *history)
    if done.exit_code == 2:
        return Refusal(done.stderr.removeprefix("tamis: ").strip())
    assert done.exit_code == 0, done.exception
    return from_json(json.loads(done.stdout))


def from_json(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in a response of the service, or in the JSON of the command."""
    results = body["results"]
    return {
        "text": body["text"],
        "status": body["status"],
        "tokens": (body["usage"]["input_tokens"], body["usage"]["output_tokens"]),
        "warnings": body["warnings"],
        "answerability": body["answerability"],
        "verdict": body["verdict"],
        "reason": body["reason"],
        "calibrated": body["calibrated"],
        "spans": [
            (result["index"], span["start"], span["end"], span["score"])
            for result in results
            for span in result["relevant_spans"]
        ],
        "raw scores": [result["raw_score"] for result in results],
        "evidence": [result["evidence_score"] for result in results],
        "texts": [result["text"] for result in results],
        "counts": [(result["tokens_before"], result["tokens_after"]) for result in results],
        "ids": [result["id"] for result in results],
        "reading": (body["counts"]["windows"], body["counts"]["tokens_scored"]),
    }


def request_body(call: Call) -> dict[str, Any]:
    """The body of `POST /v1/compress`."""
    rules = dict(call.rules)
    protect = {"protect": {"regex": list(rules.pop("protect"))}} if "protect" in rules else {}
    return {
        "question": call.question,
        "documents": list(call.documents),
        **call.budget,
        **rules,
        **protect,
        "method": call.method,
        "tokenizer": call.tokenizer,
        "language": call.language,
        "instruction": call.instruction,
        "history": list(call.history),
    }


def _http(call: Call, house: House) -> Answer:
    answer = house.service.post("/v1/compress", **request_body(call))
    assert answer.status_code < 500, answer.text
    if not answer.is_success:
        return Refusal(answer.json()["error"]["message"])
    return from_json(answer.json())


def _batch(call: Call, house: House) -> Answer:
    row = {"question": call.question, "documents": call.documents, "turns": list(call.history)}
    rows, out = write_lines(house.folder / "rows.jsonl", [row]), house.folder / "out"
    words = ["--overwrite", "--quiet", "--history-field", "turns", *_options(call, house)]
    done = run_command("batch", "run", rows, "-o", out, *words)
    if done.exit_code == 2:
        return Refusal(done.stderr.removeprefix("tamis: ").strip())
    assert done.exit_code in (0, 1), done.exception
    (found,) = read_rows(out)
    if found["status"] == "error":
        return Refusal(found["error"].partition(": ")[2])
    return {
        "text": found["compressed"],
        "status": found["status"],
        "tokens": (found["tokens_in"], found["tokens_out"]),
        "spans": [(s["document"], s["start"], s["end"], s["score"]) for s in found["spans"]],
    }


def _langchain(call: Call, house: House, base_url: str | None = None) -> Answer:
    where: dict[str, Any] = {"proxy": house.proxy} if base_url is None else {"base_url": base_url}
    if base_url is None and house.root is not None:
        where["options"] = {"root": house.root}
    try:
        compressor = TamisCompressor(
            **call.budget,
            **call.rules,
            **where,
            method=call.method,
            tokenizer=house.tokenizer(call) if base_url is None else call.tokenizer,
            language=call.language,
            title_key="title",
            on_error="fail",
        )
        given = [
            Document(
                document["text"],
                id=document.get("id"),
                metadata={"place": place, "title": document.get("title")},
            )
            for place, document in enumerate(call.documents)
        ]
        found = compressor.compress_documents(given, call.question)
    except (TamisError, ValueError) as error:
        return Refusal(str(error))
    answer: dict[str, Any] = {
        "shown": {
            document.metadata["place"]: (
                document.page_content,
                [tuple(span) for span in document.metadata["compression"]["spans"]],
                document.metadata["evidence_score"],
                document.metadata["compression"]["tokens_before"],
                document.metadata["compression"]["tokens_after"],
            )
            for document in found
        },
        "text": call.rules.get("separator", "\n\n").join(d.page_content for d in found),
    }
    if found:
        kept = found[0].metadata["compression"]
        said = ("status", "warnings", "answerability", "verdict", "reason")
        answer |= {name: kept[name] for name in said}
    return answer


def _remote(call: Call, house: House) -> Answer:
    return _langchain(call, house, house.service.url)


_ASK: dict[str, Callable[[Call, House], Answer]] = {
    "library": _library,
    "command": _command,
    "http": _http,
    "batch": _batch,
    "langchain": _langchain,
    "remote": _remote,
}

SENTENCES = (
    "The old harbour of Malo was closed in 1954.",
    "Ships came in spring, and left with the first frost.",
    "Bread was cheap then: a loaf cost 3 pennies.",
    "Nobody knew why the keeper wrote letters.",
    "See https://malo.example/harbour for the map.",
    "The mayor of Malo, Ada Quint, closed the harbour herself.",
    "It was never opened again.",
    "Grain is dry. So is salt.",
)
TEXTS = (
    "",
    " \n\t ",
    "# Harbour\n\nClosed in 1954.\n\n- Ships\n- Ropes of Malo\n- Salt\n",
    "| Year | Ships |\n|---|---|\n| 1953 | 12 |\n| 1954 | 0 |\n| 1955 | 0 |\n",
    "```python\ndef close(harbour):\n    harbour.open = False\n    return harbour\n```\n",
    "[09:06] Anna: who closed the harbour?\n[09:07] Ben: Ada Quint did. In 1954.\n",
    "Der alte Hafen von Malo wurde 1954 geschlossen. Die Schiffe kamen im Frühling und mit dem "
    "ersten Frost fuhren sie. Das Brot war billig.",
    "港は1954年に閉鎖された。船は春に来た。誰も知らない。",
    "Gate A, bzw. Gate B, usw. Tag Nr. 5 z. B. Hafen Malo, d. h. Ring. Salt Quay ca. 1954.",
    "Caf\u00e9 \U0001f469\u200d\U0001f680 closed. Harbour \u202eabc\u202c of Malo. End\u0301.",
    "First line of Malo.\r\nSecond line. Third harbour.\r\n\r\nNew paragraph in 1954.\r\n",
    "Keep <keep>this harbour</keep> and drop that. Or not. Malo sleeps.",
    "<!doctype html><html><body><p>Harbour of Malo. Closed.</p></body></html>",
)
QUESTIONS = (
    "When was the old harbour of Malo closed?",
    "Who closed the harbour? And in which year was that?",
    "Wann wurde der Hafen geschlossen?",
    "1954",
)
INSTRUCTION = (
    "Suche nach dem Hafen und der Stadt, in der er war, und nicht nach den Schiffen, die dort mit "
    "der Ware auf dem Weg zu den Inseln waren."
)
"""In another language than most documents: which is theirs is not for it to say."""
PATTERNS = (r"\d{4}", r"^Bread", r"again\.$", r"(?i)GRAIN", r"x*", r"Malo was.*Ships", "frost")


def random_call(draw: random.Random) -> Call:
    """A request of any kind; about one in ten cannot be served."""
    documents = [_random_document(draw, place) for place in range(draw.choice((1, 2, 3, 3, 5)))]
    if draw.random() < 0.2:
        documents.append(dict(documents[0]))
    call = Call(
        draw.choice(QUESTIONS),
        tuple(documents),
        _random_budget(draw),
        _random_rules(draw),
        draw.choice(("lexical", "lexical", "lead")),
        draw.choice(("words", "words", "words", "estimate")),
        draw.choice(("auto", "auto", "auto", "de", "en")),
    )
    if draw.random() < 0.15:
        call = replace(call, instruction=INSTRUCTION)
    if draw.random() < 0.15:
        call = replace(call, history=("Who is Ada Quint?",))
    return call


def _random_document(draw: random.Random, place: int) -> dict[str, Any]:
    text = draw.choice(TEXTS)
    if draw.random() < 0.6:
        text = " ".join(draw.choices(SENTENCES, k=draw.randint(1, 8)))
    document: dict[str, Any] = {"text": text}
    if draw.random() < 0.3:
        document["id"] = f"d{place}"
    if draw.random() < 0.3:
        document["title"] = draw.choice(("Malo", "The harbour", ""))
    if draw.random() < 0.2:
        document["metadata"] = {"speaker": draw.choice((place, "Malo"))}
    if draw.random() < 0.1 and text:
        start = draw.randrange(len(text))
        document["keep"] = [[start, draw.randint(start, len(text) + draw.choice((0, 0, 9)))]]
    if draw.random() < 0.1:
        document["min_tokens"] = draw.choice((3, 8))
    return document


def _random_budget(draw: random.Random) -> dict[str, Any]:
    return draw.choice(
        (
            {"max_tokens": draw.choice((1, 6, 12, 25, 60))},
            {"max_tokens": draw.choice((12, 25))},
            {"ratio": draw.choice((0.1, 0.3, 0.5, 0.9, 1.0))},
            {"ratio": draw.choice((0.3, 0.5))},
            {"max_tokens": 20, "threshold": 0.4},
            {"threshold": 0.5},
            {"coverage": 0.9},
            {"max_tokens": 20, "ratio": 0.5},
        )
    )


def _random_rules(draw: random.Random) -> dict[str, Any]:
    choices: dict[str, tuple[Any, ...]] = {
        "protect": (*([pattern] for pattern in PATTERNS), [r"\d", "frost"]),
        "context_window": (1, 2),
        "dedup": (0.5, 0.95),
        "fill": (True, False),
        "order": ("original", "score", "edges"),
        "separator": ("\n---\n", " ", "\t|"),
        "elision": ("…", "[...]"),
        "citations": ("({doc}) ", "[{id}:{unit}] "),
        "titles": (True,),
        "top_n": (1, 2),
        "keep_tags": (True,),
        "answerable_floor": (0.3,),
        "unanswerable": ("nothing", "pass_through"),
        "granularity": ("block", "document", "sentence", "token"),
        "read_metadata": (["speaker"], ["speaker", "day"]),
    }
    names = draw.sample(sorted(choices), draw.choice((0, 1, 1, 2, 3)))
    return {name: draw.choice(choices[name]) for name in names}


RANKING_DOORS = ("library", "command", "http", "langchain", "remote")
RANKING_FIELDS: dict[str, dict[str, str]] = {
    "question": {**dict.fromkeys(RANKING_DOORS, ""), "http": "query"},
    "documents": dict.fromkeys(RANKING_DOORS, ""),
    # the dialects rank documents by their text, and say so where they have more
    "id": {"library": "", "command": ""},
    "title": {"library": "", "command": ""},
    "top_n": {"library": "", "command": "", "http": ""},
    "method": {**dict.fromkeys(RANKING_DOORS, ""), "http": "model"},
    "language": dict.fromkeys(RANKING_DOORS, ""),
    "first_stage": {"library": "", "command": "--first-stage"},
    "fuse": {"library": "", "command": "--fuse"},
    "min_score": {"library": "", "command": "--min-score", "http": ""},
    "read_metadata": {"library": "", "command": "--read-metadata"},
    "instruction": {"http": ""},
}
"""A field of a ranking by door, as in `FIELDS`."""


@dataclass(frozen=True, slots=True)
class RankingCall:
    """One request to rank, in no door's words."""

    question: str
    documents: tuple[Mapping[str, Any], ...]
    method: str = "lexical"
    language: str = "auto"
    top_n: int | None = None
    first_stage: tuple[float, ...] | None = None
    fuse: str | None = None

    def doors(self) -> list[str]:
        """The doors that have all of its fields."""
        used = {name for document in self.documents for name in document} - {"text"}
        used |= {name for name in ("top_n", "first_stage", "fuse") if getattr(self, name)}
        return [door for door in RANKING_DOORS if all(door in RANKING_FIELDS[n] for n in used)]


def random_ranking(draw: random.Random) -> RankingCall:
    """A request to rank of any kind."""
    documents = [
        {name: value for name, value in _random_document(draw, i).items() if name in ("text", "id")}
        for i in range(draw.choice((1, 3, 6)))
    ]
    if draw.random() < 0.7:
        documents = [{"text": document["text"]} for document in documents]
    if draw.random() < 0.3:
        documents.append(dict(documents[0]))
    stage = draw.random() < 0.15
    return RankingCall(
        draw.choice(QUESTIONS),
        tuple(documents),
        draw.choice(("lexical", "lexical", "lead")),
        draw.choice(("auto", "auto", "de")),
        draw.choice((None, None, 1, 4)),
        tuple(round(draw.random(), 2) for _ in documents) if stage else None,
        draw.choice(("rrf", None)) if stage else None,
    )


Ranking = list[tuple[int, float | None]] | Refusal
"""Documents, best first, each with a score from 0 to 1."""


def ask_ranking(door: str, call: RankingCall, house: House) -> Ranking:
    """The ranking of one door."""
    return _ASK_RANKING[door](call, house)


def _library_ranking(call: RankingCall, house: House) -> Ranking:
    try:
        found = tamis.rerank(
            call.question,
            call.documents,
            top_n=call.top_n,
            method=call.method,
            first_stage=call.first_stage,
            fuse=call.fuse,  # type: ignore[arg-type]
            proxy=house.proxy,
            language=call.language,
            root=house.root,
        )
    except TamisError as error:
        return Refusal(str(error))
    if call.first_stage is not None:  # the score is what both were joined to
        return [(one.index, _finite(one.score)) for one in found.results]
    return [(one.index, to_probability(one.score, found.calibrated)) for one in found.results]


def _command_ranking(call: RankingCall, house: House) -> Ranking:
    file, stage = house.folder / "ranking.json", house.folder / "stage.json"
    file.write_text(json.dumps({"question": call.question, "documents": call.documents}))
    stage.write_text(json.dumps(call.first_stage))
    words: list[object] = ["--method", call.method, "--language", call.language, "--offline"]
    words += ("--home", house.root) if house.root is not None else ()
    words += ("--top-n", call.top_n) if call.top_n else ()
    words += ("--first-stage", stage) if call.first_stage else ()
    words += ("--fuse", call.fuse) if call.fuse else ()
    done = run_command("rerank", file, "--json", *words)
    if done.exit_code == 2:
        return Refusal(done.stderr.removeprefix("tamis: ").strip())
    body = json.loads(done.stdout)
    return [(one["index"], one["relevance_score"]) for one in body["results"]]


def _http_ranking(call: RankingCall, house: House) -> Ranking:
    body = {
        "query": call.question,
        "documents": [document["text"] for document in call.documents],
        "model": call.method,
        "language": call.language,
        "top_n": call.top_n,
    }
    answer = house.service.post("/v2/rerank", **body)
    assert answer.status_code < 500, answer.text
    if not answer.is_success:
        return Refusal(answer.text)
    assert answer.json()["meta"]["warnings"] == []
    return [(one["index"], one["relevance_score"]) for one in answer.json()["results"]]


def _langchain_ranking(call: RankingCall, house: House, base_url: str | None = None) -> Ranking:
    where: dict[str, Any] = {"proxy": house.proxy} if base_url is None else {"base_url": base_url}
    if base_url is None and house.root is not None:
        where["options"] = {"root": house.root}
    try:
        encoder = TamisCrossEncoder(method=call.method, language=call.language, **where)
        scores = encoder.score([(call.question, one["text"]) for one in call.documents])
    except TamisError as error:
        return Refusal(str(error))
    scored: list[tuple[int, float | None]] = list(enumerate(scores))
    return sorted(scored, key=lambda one: (-(one[1] or 0.0), one[0]))


def _remote_ranking(call: RankingCall, house: House) -> Ranking:
    return _langchain_ranking(call, house, house.service.url)


_ASK_RANKING: dict[str, Callable[[RankingCall, House], Ranking]] = {
    "library": _library_ranking,
    "command": _command_ranking,
    "http": _http_ranking,
    "langchain": _langchain_ranking,
    "remote": _remote_ranking,
}
