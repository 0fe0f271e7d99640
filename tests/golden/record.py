"""Records what every way into tamis answers, and compares a later tree with it.

    python -m tests.golden record             write tests/golden/answers.jsonl.xz
    python -m tests.golden compare            answer all requests again, and list what differs
    python -m tests.golden compare --exact    the same to the last digit: on one machine
    python -m tests.golden compare --only "library: rule"   rows whose name has this in it

`table.py` has the requests. One thread reads, in float32 on every processor: then a score has the
same digits each time on one machine, and nearly the same on another. What differs between two runs
of one tree is taken out by the rules of `PATTERNS` and `VOLATILE`, and nothing else is.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, is_dataclass
from difflib import unified_diff
from functools import cached_property
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import torch

import tamis
from agents.tests.gateway.chat_server import chat_server
from tamis.probes.attention.linear_kernels import cpu_capabilities
from tests.golden.table import FILES, REQUESTS, SERVICES, Row

ANSWERS = Path(__file__).with_name("answers.jsonl.xz")
TOLERANCE, LEAST = 1e-3, 1e-5
"""Relative, of a score on another processor; and absolute, of sums that are nearly zero."""
NATIVE_DTYPES = ("avx512_bf16", "amx_bf16", "avx512_vnni")
"""What a processor may have for numbers in fewer bits: the default would then be no float32."""
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "fastapi", "pydantic", "typer", "rich")

COLUMNS = "1000"
"""Of commands: a line that shows a duration would else break here or there."""
ROWS = {row.name: row for row in REQUESTS}

VOLATILE = {
    "clock": ("created", "timings", "timings_ms", "runtime_ms", "seconds", "total_time"),
    "identifier": ("id", "request_id"),
    "dependency": ("tokenizers",),
    "timing header": (
        "x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time",
        "x-inference-time",
        "retry-after",
    ),
}  # fmt: skip
"""Fields and headers by the rule that takes them out; of an identifier only one that was drawn."""
DRAWN = re.compile(r"(?:[a-z]+[-_])?(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
PATTERNS = (
    ("duration", re.compile(r"\b[0-9][0-9,.]*(?:e-?[0-9]+)?\s{0,2}(?:ms|s|seconds|min)\b")),
    ("rate", re.compile(r"\b[0-9][0-9,.]* (?:tokens|rows|chunks)(?:/s| a second)")),
    ("bytes", re.compile(r"\b[0-9][0-9,.]* (?:bytes|kB|KB|MB|GB|KiB|MiB)\b")),
)
"""Parts of the messages of commands that differ from run to run."""
BROKEN = re.compile(r",\s+(\w+)\s+<duration>\s*")
"""A line of durations, which breaks where they are long."""
METER = re.compile(r"(?m)^[^#\n].*\n")
SHOWN_HEADERS = ("content-type", "allow", "www-authenticate", "retry-after")
PADDING = re.compile(r"([ ─])\1+")
"""Of a help text: one long option would move all others."""
DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+(?:e-?[0-9]+)?")


class Session:
    """Answers rows; services, the index and the stand-ins are started when a row needs them.

    Args:
        folder: an empty folder, for the files of the table and of commands.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._clients: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        for name, text in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, "utf-8")

    def answer(self, row: Row) -> Any:
        """The answer to a row as JSON values, with what varies taken out."""
        if row.name not in self.answers:
            if "after" in row.spec:
                self.answer(ROWS[row.spec["after"]])
            found = getattr(self, f"_{row.kind}")(row.spec)
            self.answers[row.name] = self._strip(json.loads(json.dumps(found)))
        return self.answers[row.name]

    @cached_property
    def upstream(self) -> Any:
        """A local server that answers chats as OpenAI's and Anthropic's do."""
        return self._stack.enter_context(chat_server())

    @cached_property
    def index(self) -> Path:
        """An index with keys, as the command line builds it."""
        built = self._run(["index", "build", "corpus.jsonl", "-o", "docs.index", "--quiet"])
        assert built["exit"] == 0, built
        return self.folder / "docs.index"

    def _fill(self, given: Any) -> Any:
        """Texts in which the table's places are filled in, and what they name is started."""
        if isinstance(given, dict):
            return {name: self._fill(value) for name, value in given.items()}
        if isinstance(given, list | tuple):
            return type(given)(map(self._fill, given))
        if not isinstance(given, str):
            return given
        if "docs.index" in given:
            assert self.index
        if "{upstream}" in given:
            given = given.replace("{upstream}", self.upstream.url)
        return given.replace("{folder}", str(self.folder))

    def _library(self, spec: dict[str, Any]) -> Any:
        arguments = self._fill(spec["arguments"])
        return attempt(tamis.compress, spec["question"], spec["documents"], **arguments)

    def _rerank(self, spec: dict[str, Any]) -> Any:
        return attempt(tamis.rerank, spec["question"], spec["documents"], **spec["arguments"])

    def _tool(self, spec: dict[str, Any]) -> Any:
        return attempt(tamis.compress_tool_output, spec["text"], **spec["arguments"])

    def _ask(self, spec: dict[str, Any]) -> Any:
        return attempt(tamis.ask_context, self.index, spec["question"], **spec["arguments"])

    def _langchain(self, spec: dict[str, Any]) -> Any:
        return attempt(run_adapter, spec, self._fill(spec["fields"]))

    def _http(self, spec: dict[str, Any]) -> Any:
        client, path = self._client(spec["to"]), spec["path"]
        if "hash_of" in spec:
            path = path.replace("{hash}", self.answers[spec["hash_of"]]["body"]["ccr_hashes"][0])
        arguments = {name: spec[name] for name in ("json", "content", "headers") if spec.get(name)}
        if "content" in spec:
            arguments["content"] = spec["content"]
            arguments["headers"] = {"content-type": "application/json", **spec.get("headers", {})}
        forwarded = len(self.upstream.exchanges) if spec["to"] == "upstream" else 0
        answer = client.request(spec["method"], path, **arguments)
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name in SHOWN_HEADERS or (name.startswith("x-") and name != "x-request-id")
        }
        found = {"status": answer.status_code, "headers": headers, "body": body_of(answer)}
        if spec["to"] == "upstream":
            sent = self.upstream.exchanges[forwarded:]
            found["forwarded"] = [
                {"method": one.method, "path": one.path, "body": one.body.decode()} for one in sent
            ]
        return found

    def _client(self, name: str) -> Any:
        """A client of a service in this process, which is started once."""
        if name not in self._clients:
            from starlette.testclient import TestClient

            from tamis.service.http.app import create_app
            from tamis.service.http.runtime.settings import Settings

            knobs = self._fill(SERVICES[name])
            settings = Settings(threads=1, warmup=False, log_level="error", **knobs)
            client = TestClient(
                create_app(settings), "http://localhost", raise_server_exceptions=False
            )
            self._clients[name] = self._stack.enter_context(client)
        return self._clients[name]

    def _cli(self, spec: dict[str, Any]) -> Any:
        if any("docs.index" in word for word in spec["words"]):
            assert self.index
        found = self._run(spec["words"], spec.get("stdin", ""))
        for name in spec.get("outputs", ()):
            found[name] = parsed((self.folder / name).read_text("utf-8"))
        return found

    def _run(self, words: Sequence[str], stdin: str = "") -> dict[str, Any]:
        """One command as its script runs it, in the folder."""
        [script] = entry_points(group="console_scripts", name="tamis")
        with terminal(["tamis", *words], stdin, self.folder) as (out, err):
            exit_code: Any = 0
            try:
                script.load()()
            except SystemExit as end:
                exit_code = end.code or 0
            sys.stdout.flush()
            sys.stderr.flush()
        return {
            "exit": exit_code,
            "stdout": parsed(out.getvalue().decode("utf-8", "replace")),
            "stderr": err.getvalue().decode("utf-8", "replace"),
        }

    def _help(self, _: dict[str, Any]) -> Any:
        """The help of every command, short and long, by its words."""
        from tamis.service.cli.app import root_command

        found = {}
        for words, command in commands(root_command()):
            flags = ["--help"]
            if any("--help-all" in one.opts and not one.hidden for one in command.params):
                flags.append("--help-all")
            for flag in flags:
                shown = self._run([*words, flag])
                assert shown["exit"] == 0, shown
                lines = PADDING.sub(r"\1\1", shown["stdout"]).splitlines()
                found[" ".join(["tamis", *words, flag])] = [line.strip(" │") for line in lines]
        return found

    def _strip(self, value: Any, name: str = "") -> Any:
        """A value without what differs between two runs of the same tree."""
        rule = next((rule for rule, names in VOLATILE.items() if name in names), None)
        rule = "clock" if name.endswith("_ms") and isinstance(value, int | float) else rule
        if rule == "identifier":
            drawn = isinstance(value, str) and DRAWN.fullmatch(value)
            return "<identifier>" if drawn else self._strip(value)
        if rule == "clock" and isinstance(value, dict) and "type" not in value:
            return {key: "<clock>" for key in sorted(value)}  # which clocks there are is recorded
        if rule is not None and not isinstance(value, dict):
            return f"<{rule}>" if value is not None else None
        if isinstance(value, dict):
            return {key: self._strip(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self._strip(one) for one in value]
        return self._strip_text(value, name) if isinstance(value, str) else value

    def _strip_text(self, text: str, name: str) -> str:
        text = text.replace(str(self.folder), "<folder>").replace(str(Path.home()), "<home>")
        if name == "version" or text.startswith("tamis "):
            text = text.replace(version("tamis"), "<version>")
        if "upstream" in self.__dict__:  # started
            text = text.replace(self.upstream.url, "<address of upstream>")
        if name in ("stdout", "stderr") or name.endswith(".html"):
            for rule, pattern in PATTERNS:
                text = pattern.sub(f"<{rule}>", text)
            text = BROKEN.sub(r", \1 <duration> ", text)
        return METER.sub("", text) if text.startswith("# HELP") else text


def attempt(function: Any, *given: Any, **arguments: Any) -> Any:
    """What a function returns as JSON values, or the kind and message of our error."""
    try:
        return plain(function(*given, **arguments))
    except (tamis.TamisError, ValueError, TypeError) as error:
        return {"error": type(error).__name__, "message": str(error)}


def plain(value: Any) -> Any:
    """A result as JSON values, with the fields of its classes."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "items"):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def run_adapter(spec: dict[str, Any], fields: dict[str, Any]) -> Any:
    """What an adapter of LangChain returns."""
    from langchain_core.documents import Document

    import tamis.langchain

    adapter = getattr(tamis.langchain, spec["adapter"])(**fields)
    documents = [
        Document(one["text"], id=one["id"], metadata={"title": one["title"], "tags": ["x"]})
        for one in spec["documents"]
    ]
    question = spec["question"]
    if hasattr(adapter, "score"):
        return list(adapter.score([(question, one.page_content) for one in documents]))
    if hasattr(adapter, "compress_documents"):
        found = adapter.compress_documents(documents, question)
    elif hasattr(adapter, "transform_documents"):
        found = adapter.transform_documents(documents)
    else:
        found = adapter.invoke(question)
    return [one.model_dump(mode="json") for one in found]


def body_of(answer: Any) -> Any:
    """The body of an answer of a service: JSON, a text, or the checksum of a page."""
    kind = answer.headers.get("content-type", "")
    if "json" in kind:
        return answer.json()
    if "html" in kind:
        return {"sha256": hashlib.sha256(answer.content).hexdigest()}
    return answer.text


def parsed(text: str) -> Any:
    """A text as the JSON that it is, or as the JSON of its lines; else the text."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    with suppress(ValueError):
        return json.loads(text)
    with suppress(ValueError):
        return [json.loads(line) for line in text.splitlines()]
    return text


@contextmanager
def terminal(words: list[str], stdin: str, folder: Path) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """Arguments, streams and folder of a command that runs in this process; both outputs."""
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr, os.getcwd(), os.environ.copy()
    out, err = io.BytesIO(), io.BytesIO()
    sys.argv = words
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8", newline="")
    sys.stdout, sys.stderr = (io.TextIOWrapper(one, "utf-8", newline="") for one in (out, err))
    os.environ |= {"COLUMNS": COLUMNS, "TERM": "dumb", "NO_COLOR": "1"}
    os.chdir(folder)
    try:
        yield out, err
    finally:
        streams = sys.stdout, sys.stderr
        sys.argv, sys.stdin, sys.stdout, sys.stderr, home, variables = before
        for one in streams:
            one.detach()  # which would close what was written
        os.chdir(home)
        os.environ.clear()
        os.environ.update(variables)


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of every command and group, with the command."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


@contextmanager
def session() -> Iterator[Session]:
    """A session in a folder of its own; one thread reads, in float32, until it ends."""
    look_up, threads = getattr(torch.cpu, "get_capabilities", dict), torch.get_num_threads()
    known = {name: value for name, value in look_up().items() if name not in NATIVE_DTYPES}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="golden-") as folder, ExitStack() as stack:
        torch.cpu.get_capabilities = lambda: dict(known)
        cpu_capabilities.cache_clear()
        try:
            yield Session(Path(folder).resolve(), stack)
        finally:
            torch.cpu.get_capabilities = look_up
            cpu_capabilities.cache_clear()
            torch.set_num_threads(threads)


def fingerprint() -> dict[str, Any]:
    """The processor and the packages that digits and help texts depend on."""
    look_up = getattr(torch.cpu, "get_capabilities", dict)
    flags = sorted(name for name, value in look_up().items() if value is True)
    return {
        "processor": platform.machine(),
        "flags": flags,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "dtype": "float32",
        "threads": 1,
    }


def request_hash(row: Row) -> str:
    """Of what is sent, so that an answer is not compared with that of another request."""
    return hashlib.sha256(json.dumps(asdict(row), sort_keys=True).encode()).hexdigest()[:12]


def write_answers(answers: dict[str, Any]) -> None:
    """Writes all answers, one line a row, in the order of the table."""
    lines: list[Any] = [{"format": 1, "machine": fingerprint()}]
    for row in REQUESTS:
        lines.append({"name": row.name, "sent": request_hash(row), "answer": answers[row.name]})
    text = "".join(f"{json.dumps(line, ensure_ascii=True)}\n" for line in lines)
    ANSWERS.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def read_answers() -> tuple[dict[str, Any], dict[str, Any]]:
    """The machine of the record, and the recorded rows by name."""
    first, *rows = map(json.loads, lzma.decompress(ANSWERS.read_bytes()).decode().splitlines())
    return first["machine"], {row["name"]: row for row in rows}


def differences(before: Any, after: Any, exact: bool, path: str = "") -> Iterator[str]:
    """What differs between two answers: a line each, with a JSON pointer."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _different_fields(before, after, exact, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _different_elements(before, after, exact, path)
    elif not same(before, after, exact):
        if isinstance(before, str) and isinstance(after, str):
            pairs = enumerate(zip(before, after, strict=False))
            start = next((index for index, (old, new) in pairs if old != new), 0)
            before, after = before[max(0, start - 20) :], after[max(0, start - 20) :]
        yield f"~ {path}: {short(before)} → {short(after)}"


def _different_fields(
    before: dict[str, Any], after: dict[str, Any], exact: bool, path: str
) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        where = f"{path}/{name}"
        if name not in after:
            yield f"- {where}: {short(before[name])}"
        elif name not in before:
            yield f"+ {where}: {short(after[name])}"
        else:
            yield from differences(before[name], after[name], exact, where)
    if exact and list(before) != list(after) and set(before) == set(after):
        yield f"~ {path}: the fields come in another order"


def _different_elements(
    before: list[Any], after: list[Any], exact: bool, path: str
) -> Iterator[str]:
    if all(isinstance(one, str) for one in (*before, *after)):  # the lines of a help text, names
        lines = list(unified_diff(before, after, lineterm="", n=0))[2:]
        yield from (f"{line[0]} {path}: {line[1:]}" for line in lines if line[0] in "+-")
        return
    if len(before) != len(after):
        yield f"~ {path}: {len(before)} elements, now {len(after)}"
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        yield from differences(old, new, exact, f"{path}/{index}")


def same(before: Any, after: Any, exact: bool) -> bool:
    """Whether two values are equal; unless `exact`, scores within the tolerance are."""
    if before == after or exact:
        return type(before) is type(after) and bool(before == after)
    if float in (type(before), type(after)):  # a score of 0 is written without a point
        return {type(before), type(after)} <= {int, float} and near(before, after)
    if not isinstance(before, str) or not isinstance(after, str):
        return False
    if DECIMAL.sub("#", before) != DECIMAL.sub("#", after):
        return False
    pairs = zip(DECIMAL.findall(before), DECIMAL.findall(after), strict=True)
    return all(near(float(old), float(new), _last_digit(old)) for old, new in pairs)


def near(before: float, after: float, least: float = LEAST) -> bool:
    """Whether two scores are within the tolerance."""
    return abs(before - after) <= max(least, TOLERANCE * max(abs(before), abs(after)))


def _last_digit(shown: str) -> float:
    """One of the last digit that is shown: a score may be rounded either way."""
    digits = shown.partition("e")[0].partition(".")[2]
    return 1.01 * 10.0 ** -len(digits)


def short(value: Any) -> str:
    """A value for a line of the report."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:120]} … {text[-30:]}"


Choice = tuple[dict[Any, float], list[Any]]
"""Scores by label, and the labels that were chosen, in order."""


def choices(answer: Any) -> list[Choice]:
    """What an answer chose by its scores, wherever it shows the scores of all there was."""
    found: list[Choice] = []
    if isinstance(answer, dict) and {"kept", "units", "scores"} <= set(answer):
        scores = dict(enumerate(answer["scores"]))
        found.append((scores, [one["unit"] for one in answer["kept"]]))
    for value in answer.values() if isinstance(answer, dict) else ():
        found += choices(value)
    if isinstance(answer, list):
        ranked = [ranked_by(one) for one in answer]
        if ranked and None not in ranked:
            found.append((dict(ranked), [label for label, _ in ranked]))
        units = [
            ((document, unit["start"]), unit["score"], unit["kept"])
            for document, one in enumerate(answer)
            if isinstance(one, dict)
            for unit in one.get("units") or ()
            if isinstance(unit, dict) and unit["score"] is not None
        ]
        if units:
            kept = [label for label, _, is_kept in units if is_kept]
            found.append(({label: score for label, score, _ in units}, kept))
        for one in answer:
            found += choices(one)
    return found


def ranked_by(one: Any) -> tuple[Any, float] | None:
    """The index and the score of an entry of a ranking."""
    if not isinstance(one, dict) or not isinstance(one.get("index"), int) or "kept" in one:
        return None
    names = ("relevance_score", "score", "logit")
    score = next((one[name] for name in names if isinstance(one.get(name), float)), None)
    return None if score is None else (one["index"], score)


def is_tie(before: Any, after: Any) -> bool:
    """Whether answers choose otherwise only among scores that tie within the tolerance."""
    old, new = choices(before), choices(after)
    if len(old) != len(new):
        return False
    otherwise = False
    for (scores, chosen), (scores_now, chosen_now) in zip(old, new, strict=True):
        if set(scores) != set(scores_now) or len(chosen) != len(chosen_now):
            return False
        if not all(near(scores[label], scores_now[label]) for label in scores):
            return False
        if set(chosen) == set(chosen_now):
            moved = [(a, b) for a, b in zip(chosen, chosen_now, strict=True) if a != b]
        else:
            out = [label for label in chosen if label not in chosen_now]
            moved = [(a, b) for a in out for b in chosen_now if b not in chosen]
        if not all(near(scores[a], scores[b]) for a, b in moved):
            return False
        otherwise = otherwise or bool(moved)
    return otherwise


def row_report(recorded: Any, answer: Any, exact: bool) -> list[str]:
    """The lines of the report for one row; none where the answer is as it was."""
    found = list(differences(recorded, answer, exact))
    if found and not exact and is_tie(recorded, answer):
        return []
    return found


def compare(rows: Sequence[Row], exact: bool) -> int:
    """Answers rows again and prints what differs; the number of rows that do."""
    machine, recorded = read_answers()
    here = fingerprint()
    for name in machine:
        if machine[name] != here[name]:
            say(f"recorded with another {name}:", *differences(machine[name], here[name], True))
    differing = 0
    with session() as golden:
        for row in rows:
            known = recorded.get(row.name)
            if known is None or known["sent"] != request_hash(row):
                found = ["the request is new or was changed: record again"]
            else:
                found = row_report(known["answer"], golden.answer(row), exact)
            if found:
                differing += 1
                say(f"\n{row.name}", *(f"    {line}" for line in found))
    for name in sorted(set(recorded) - {row.name for row in REQUESTS}):
        differing += 1
        say(f"\n{name}\n    recorded, and no longer asked for")
    say(f"\n{len(rows)} requests, {differing} answered otherwise")
    return differing


def say(*lines: str) -> None:
    """Prints lines."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def main(words: Sequence[str] | None = None) -> int:
    """Records or compares, as the words say."""
    parser = argparse.ArgumentParser("python -m tests.golden", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("--exact", action="store_true", help="to the last digit of every score")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    given = parser.parse_args(words)
    rows = [row for row in REQUESTS if given.only in row.name]
    if given.action == "compare":
        return int(compare(rows, given.exact) > 0)
    clock = time.process_time()
    known: dict[str, Any] = {}
    if given.only:
        machine, known = read_answers()
        if machine != fingerprint():
            parser.error("the record is of another machine, or of other packages; leave out --only")
    with session() as golden:
        answers = {row.name: golden.answer(row) for row in rows}
    answers = {name: row["answer"] for name, row in known.items()} | answers
    write_answers(answers)
    took = time.process_time() - clock
    say(f"{len(answers)} answers, {ANSWERS.stat().st_size:,} bytes, {took:.0f} s of processor")
    return 0
