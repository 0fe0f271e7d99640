"""`bench peers`: compares tamis and published compressors on the same cases, in one run.

The input of every peer: the same question, documents, sentences and budget.

A set is a file of labelled records. `NAME@TOKENS` fills each context with passages of the set's
other records, under other titles, up to so many tokens. Sets of single short passages get five
distractors. Cases are in an order that only the seed determines, so the first ten of twenty are the
first ten of forty.

Evidence in a kept text, so that peers that keep sentences and peers that delete words compare.

A gold sentence of n words is found when the longest common subsequence with some window of
1.5 n + 2 consecutive words of the kept text has nine tenths of its words. Words are runs of letters
and digits, case-folded; each Han, kana or Thai character is one word.

Runs every peer on every case, and writes one line per result; an interrupted run is resumed.

The processes of all peers run at the same time and take turns case by case, so that load on the
machine affects all of them; each case starts with another peer. Before its first case, each peer
has a short call that is not timed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.probes.hub.zoo import model_folder
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.units.segment import units_of
from tamis_lab.bench.peer_process import (
    PEERS_FOLDER,
    Peer,
    PeerFailed,
    PeerProcess,
    PeerRegistry,
    parse_weights,
)
from tamis_lab.bench.study import Study, environment_facts, table
from tamis_lab.datasets.records import (
    Record,
    gold_spans,
    has_gold,
    join_documents,
    passages_of,
    record_id,
    sample_records,
)
from tamis_lab.datasets.result_file import ResultRow
from tamis_lab.datasets.statistics import DRAWS, paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

EPILOG = """
**What is measured**

Every peer gets the same question, documents and budget, in a process and an environment of its own,
and answers with the text it keeps; those that read with a proxy read with the same one. Evidence is
looked for in that text alone, so peers that keep sentences and peers that delete words compare.
They take turns case by case. `make peers` makes the environments, then runs this.

**Examples**

`tamis lab bench peers` runs all peers that are here, on 25 cases a set

`tamis lab bench peers --peers tamis,bm25,minilm --sets hotpotqa --cases 5`

`tamis lab bench peers --plot peers.png --json > peers.json`

`tamis lab bench peers --against tamis_warm` compares with tamis on passages that it has cached

`tamis lab bench peers --peers tamis,cross_encoder --weights cross_encoder=models/ms-marco-minilm`

A run that was cut short goes on: rows are kept in `--results`, and what the processes
say in a folder beside it. Sets take turns; cases that some peer has not done yet are left out.

`tamis lab bench peers --minutes 10` measures ten minutes more
"""
SETS = "hotpotqa,xquad_en,hotpotqa@4500"


@report_errors()
def peers(
    names: Annotated[
        str | None,
        typer.Option("--peers", help="Names, with commas. Default: all that can run here."),
    ] = None,
    sets: shared.FilledSets = SETS,
    cases: Annotated[int, typer.Option("--limit", "--cases", min=1, help="Cases a set.")] = 25,
    budget: Annotated[
        float, typer.Option(help="Up to 1 a share of the tokens, above whole tokens.")
    ] = 0.2,
    data: shared.SetsFolder = None,
    against: Annotated[
        str | None, typer.Option(help="Peer that all are compared with. Default: tamis.")
    ] = None,
    proxy: shared.ProxyName = DEFAULT_PROXY,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="PEER=FOLDER, for peers with a model of their own; repeatable."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each process. Default: all cores.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no case after so long; report what is there.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds a case may take.")] = 600,
    seed: shared.Seed = 0,
    results: shared.Results = None,
    as_json: shared.Json = False,
    plot: shared.Plot = None,
    adapters: Annotated[
        Path | None,
        typer.Option(help="Folder with peers.toml. Default: lab/tests/peers.", show_default=False),
    ] = None,
) -> None:
    """Compare tamis with published compressors: evidence, time and memory on the same cases.

    Without --results, rows are kept in the user's cache.
    """
    study = Study(as_json, plot, results)
    field, given = PeerRegistry.load(adapters or PEERS_FOLDER), parse_weights(weights or ())
    field = field.with_reference(against) if against else field
    chosen, left_out = _choose_peers(field, names, given)
    counter, cores = counter_of("proxy", proxy), threads or len(os.sched_getaffinity(0))
    by_set = {
        name: load_peer_cases(name, shared.data_folder(data), cases, budget, counter, seed)
        for name in shared.parse_list(sets, "sets")
    }
    settings = {"budget": budget, "proxy": proxy, "threads": cores, "seed": seed}
    study.results = results or _default_results(settings)
    study.keep_rows(settings)
    around = PeerRunSettings(
        proxy, model_folder(proxy), given, cores, timeout, _log_folder(study.results)
    )
    turns = interleave_sets(by_set)
    with study.bars():
        run_peers(turns, chosen, field, around, study, counter, minutes)
    left = len(turns) * len(chosen) - study.measured - study.kept
    typer.echo(f"{study.results}: {study.summary()}{f', {left} are left' * bool(left)}", err=True)
    assert study.file is not None
    report = {**environment_facts(), **settings, "reference": field.reference}
    report |= {"rows": str(study.results), "not_run": left_out}
    report["sets"] = _set_figures(by_set, chosen, study.file.rows(), field, seed)
    study.publish(report, lambda: _tables(report), lambda: peer_charts(report["sets"]))


def _default_results(settings: Mapping[str, Any]) -> Path:
    """A file in the user's cache for these settings, so that a run resumes."""
    made = json.dumps({**settings, "tamis": version("tamis")}, sort_keys=True)
    folder = cache_home() / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(made.encode()).hexdigest()[:12]}.jsonl"


def _set_figures(
    by_set: Mapping[str, Sequence[PeerCase]],
    peers: Sequence[Peer],
    rows: Sequence[MeasuredRow],
    field: PeerRegistry,
    seed: int,
) -> dict[str, Any]:
    """The figures of every set of which some case was done by every peer."""
    done = {name: complete_cases(of, peers, rows) for name, of in by_set.items()}
    for name in (name for name, of in done.items() if not of):
        typer.echo(f"tamis: {name}: no case was done by every peer yet", err=True)
    return {name: peer_figures(of, peers, rows, field, seed) for name, of in done.items() if of}


def _tables(report: Mapping[str, Any]) -> Iterator[Any]:
    for name, found in report["sets"].items():
        yield from peer_tables(name, found)
        yield f"{describe_frontier(found)}\n"
    yield peer_footnote(report)


def peer_tables(name: str, figures: Mapping[str, Any]) -> list[Table]:
    """Two tables of one set, one row per peer: by evidence, most first; by time, fastest first."""
    every = list(figures["peers"].values())
    timed = [peer for peer in every if "ms_p50" in peer]
    by_evidence = sorted(every, key=lambda peer: -peer.get("evidence", -1.0))
    by_ms = sorted(timed, key=lambda peer: float(peer["ms_p50"]))
    title = (
        f"{name}: {figures['cases']} cases of {figures['mean_tokens_in']:,.0f} tokens, "
        f"budget {figures['mean_budget_tokens']:,.0f}"
    )
    return [
        table(
            title,
            ("peer", "evidence", "all", "answer", "kept", "ahead", "errors"),
            ([_label(peer), *_evidence_cells(peer)] for peer in by_evidence),
        ),
        table(
            "",
            ("peer", "ms p50", "p95", "cpu", "MiB", "× ms", "× cpu"),
            ([_label(peer), *_cost_cells(peer)] for peer in by_ms),
        ),
    ]


def _label(peer: Mapping[str, Any]) -> Text:
    return Text(peer["label"], "bold" if peer["ours"] else "")


def peer_charts(sets: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """A chart a set: evidence against time, a mark a peer, and the frontier as a line."""
    found = []
    for name, figures in sets.items():
        timed = {of["label"]: of for of in figures["peers"].values() if "ms_p50" in of}
        steps = [figures["peers"][peer] for peer in figures["frontier"]]
        points = {label: ([of["ms_p50"]], [of["evidence"]]) for label, of in timed.items()}
        frontier_line = ([of["ms_p50"] for of in steps], [of["evidence"] for of in steps])
        title = f"{name}: {figures['mean_tokens_in']:,.0f} tokens, {figures['cases']} cases"
        axes = "ms a case, median", "gold sentences kept"
        series = {**points, "no faster one keeps as much": frontier_line}
        found.append(Chart(title, series, *axes, logs="x", shares="y"))
    return found


def run_peers(
    cases: Sequence[PeerCase],
    peers: Sequence[Peer],
    registry: PeerRegistry,
    settings: PeerRunSettings,
    study: Study,
    counter: TextTokenizer,
    minutes: float | None = None,
) -> list[ResultRow]:
    """Runs every peer on every case that has no row yet; the rows of these pairs.

    Args:
        minutes: after which no case is started.

    Raises:
        PeerFailed: a peer does not start. If one fails later, the row has its error.
    """
    deadline = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
    processes: dict[str, PeerProcess] = {}
    with ExitStack() as stack:

        def measure(pair: tuple[PeerCase, Peer]) -> ResultRow:
            case, peer = pair
            if peer.name not in processes:
                process = stack.enter_context(create_process(registry, peer, settings))
                processes[peer.name] = process
                _warm_up(process, case)
            row = result_row(case, peer, processes[peer.name], counter)
            if "error" in row:
                typer.echo(f"tamis: {peer.name} on {case.id}: {row['error']}", err=True)
            return row

        rows: list[ResultRow] = []
        pairs = [(case, peer) for case in cases for peer in peers]
        done = study.file.done_keys if study.file else set()
        due = len({row_key(*pair) for pair in pairs} - done)
        for of_case in _alternate_peers(pairs):
            if time.monotonic() >= deadline:
                break
            keyed = {row_key(*pair): pair for pair in of_case}
            rows += study.rows("peers", keyed, measure, due)
        return rows


def _compare_with_reference(
    base: Sequence[MeasuredRow], rows: Sequence[MeasuredRow], seed: int
) -> dict[str, Any]:
    """Ratios of times, and differences in evidence, over the cases that neither peer failed."""
    by_case = {row["case"]: row for row in base if "error" not in row}
    pairs = [(by_case[r["case"]], r) for r in rows if "error" not in r and r["case"] in by_case]
    if not pairs:
        return {}
    ours, theirs = ([pair[side]["evidence"] for pair in pairs] for side in (0, 1))
    return {
        "times_reference_ms": _time_ratio("ms", pairs, seed),
        "times_reference_cpu_ms": _time_ratio("cpu_ms", pairs, seed),
        "reference_evidence_ahead": paired_interval(ours, theirs, [1.0] * len(pairs), seed=seed),
    }


def _choose_peers(
    field: PeerRegistry, names: str | None, weights: Mapping[str, Path]
) -> tuple[list[Peer], list[str]]:
    """The peers that run, and the reasons why others do not.

    Raises:
        BadInput: a peer that was named cannot run.
    """
    wanted = field.select(shared.parse_list(names, "peers") if names else list(field.peers))
    field.select(list(weights))
    why = {
        peer.name: reason for peer in wanted if (reason := field.missing_requirement(peer, weights))
    }
    if names and why:
        raise BadInput("; ".join(why.values()))
    for reason in why.values():
        typer.echo(f"tamis: left out: {reason}", err=True)
    if len(why) == len(wanted):
        raise BadInput("no peer can run here; each line above says what it needs")
    return [peer for peer in wanted if peer.name not in why], list(why.values())


def _log_folder(rows: Path) -> Path:
    """A folder beside the rows, for the output of the peers' processes."""
    folder = rows.with_name(f"{rows.name}.logs")
    folder.mkdir(exist_ok=True)
    return folder


def _evidence_cells(peer: Mapping[str, Any]) -> list[Text]:
    errors = Text(f"{peer['errors']} of {peer['cases']}" if peer["errors"] else "", "red")
    if "evidence" not in peer:
        return [*[Text("")] * 4, errors]
    return [
        Text(f"{peer['evidence']:.3f}"),
        Text(f"{peer['all']:.2f}"),
        Text("-" if peer["answer"] is None else f"{peer['answer']:.2f}"),
        Text(
            f"{peer['kept']:.3f}" + (f"\n{peer['over_budget']} over" if peer["over_budget"] else "")
        ),
        _with_interval(peer.get("reference_evidence_ahead"), "difference", "{:+.2f}".format),
        errors,
    ]


def _cost_cells(peer: Mapping[str, Any]) -> list[Text]:
    return [
        Text(_format_ms(peer["ms_p50"])),
        Text(_format_ms(peer["ms_p95"])),
        Text(_format_ms(peer["cpu_ms_p50"])),
        Text(f"{peer['peak_mib']:,.0f}"),
        _with_interval(peer.get("times_reference_ms"), "ratio", _format_ratio),
        _with_interval(peer.get("times_reference_cpu_ms"), "ratio", _format_ratio),
    ]


def _with_interval(
    figure: Mapping[str, float] | None, name: str, form: Callable[[float], str]
) -> Text:
    """A figure with its interval on the next line; empty where there is none."""
    if not figure:
        return Text("")
    text = Text(form(figure[name]))
    return text.append(f"\n[{form(figure['low'])}, {form(figure['high'])}]", "dim")


def _format_ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"1/{1 / ratio:,.0f}"


def _format_ms(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}"


def describe_frontier(figures: Mapping[str, Any]) -> str:
    """A line with the gain in evidence and the cost in time of each step along the frontier."""
    if not figures["frontier"]:
        return "No peer answered."
    steps = [figures["peers"][name] for name in figures["frontier"]]
    parts = [
        f"{peer['label']} {peer['evidence']:.2f} in {_format_ms(peer['ms_p50'])} ms"
        for peer in steps
    ]
    for i in range(1, len(steps)):
        more = steps[i]["evidence"] - steps[i - 1]["evidence"]
        ms = steps[i]["ms_p50"] - steps[i - 1]["ms_p50"]
        parts[i] += f" (+{more:.2f} for {_format_ms(ms)} ms more)"
    return "No faster one keeps as much: " + "; ".join(parts) + "."


def peer_footnote(report: Mapping[str, Any]) -> str:
    """An explanation of the columns."""
    first, threads = report["reference"], report["threads"]
    each = f"{threads} thread{'s' if threads > 1 else ''} each"
    return (
        "evidence: mean share of gold sentences found in the kept text; all: cases with every one; "
        "answer: cases whose answer stands in it; kept: tokens kept of all, (n over) the budget; "
        f"ahead: how much more evidence {first} keeps. ms: {each}, model loaded, peers taking "
        "turns; cpu: the processes' own time; MiB: peak of the process; × ms, × cpu: as long as "
        f"{first}, medians. [95 % interval]. Failed cases are counted, and left out of means."
    )


WARM_UP_DOCS = 3


@dataclass(frozen=True, slots=True)
class PeerCase:
    """One question with its context and budget, and what is searched for in the kept text.

    Attributes:
        set, id: which record. gold: sentences that answer. answers: any of which counts.
        request: what is sent to the peer.
    """

    set: str
    id: str
    gold: tuple[str, ...]
    answers: tuple[str, ...]
    request: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Tokens of the context by the proxy's tokenizer, without special tokens."""
        return int(self.request["context_tokens"])

    @property
    def budget_tokens(self) -> int:
        """How many tokens may be kept."""
        return int(self.request["budget_tokens"])

    def warm_up_request(self) -> dict[str, Any]:
        """The request with the first documents only, which is enough to warm a peer up."""
        docs = self.request["docs"][:WARM_UP_DOCS]
        share = sum(len(doc["text"]) for doc in docs) / max(1, len(self.request["context"]))
        return self.request | {
            "docs": docs,
            "context": join_documents(docs),
            "context_tokens": max(1, int(share * self.tokens)),
            "budget_tokens": max(1, int(share * self.budget_tokens)),
        }

    def digest(self) -> str:
        """A digest of everything in the request."""
        return hashlib.sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()[:12]


def load_peer_cases(
    name: str, folder: Path, count: int, budget: float, counter: TextTokenizer, seed: int = 0
) -> list[PeerCase]:
    """The first `count` cases of a set.

    Args:
        name: of a file in the folder, or `NAME@TOKENS`.
        budget: up to 1 a share of the context's tokens, rounded down; above 1 whole tokens.

    Raises:
        BadInput: no such set, no record with a gold sentence, or passages with too few tokens.
    """
    base, tokens = shared.parse_filled_set(name)
    path = shared.find_set_file(folder, base)
    records = sample_records(path, count + 1, has_gold, counter, tokens, seed)
    if not records:
        raise BadInput(f"{path} has no record with gold sentences; there is nothing to find")
    questions = [record["question"] for record in records]
    return [
        _build_case(name, record, questions[(i + 1) % len(questions)], budget, counter)
        for i, record in enumerate(records[:count])
    ]


def interleave_sets(by_set: Mapping[str, Sequence[PeerCase]]) -> list[PeerCase]:
    """The first case of every set, then the second: an interrupted run has cases of each set."""
    return [case for turn in zip_longest(*by_set.values()) for case in turn if case is not None]


def _build_case(
    name: str, record: Record, other_question: str, budget: float, counter: TextTokenizer
) -> PeerCase:
    docs, passages = record["docs"], passages_of(record)
    sentences: list[list[list[int]]] = [[] for _ in docs]
    units = units_of(passages, str(record.get("lang") or "en"))
    costs = counter.count_many([passages[u.passage].text[slice(*u.visible)] for u in units])
    for unit, cost in zip(units, costs, strict=True):
        sentences[unit.passage].append([*unit.visible, cost])
    context = join_documents(docs)
    tokens = counter.count(context)
    limit = Budget(ratio=budget) if budget <= 1 else Budget(max_tokens=int(budget))
    request = {
        "question": record["question"],
        "other_question": other_question,
        "context": context,
        "context_tokens": tokens,
        "budget_tokens": limit.tokens(tokens),
        "docs": [
            {"title": doc.get("title") or "", "text": doc["text"], "sentences": spans}
            for doc, spans in zip(docs, sentences, strict=True)
        ],
    }
    gold = tuple(docs[d]["text"][a:b] for d, a, b in gold_spans(record))
    answers = tuple(str(answer) for answer in record.get("answers") or ())
    return PeerCase(name, record_id(record), gold, answers, request)


MIN_FOUND_SHARE = 0.9
_SINGLE_CHARACTER_WORDS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SINGLE_CHARACTER_WORDS}]|[^\W_{_SINGLE_CHARACTER_WORDS}]+")


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded."""
    return [word.casefold() for word in _WORD.findall(text)]


def share_found(gold: Sequence[str], kept: Sequence[str]) -> float:
    """The largest share of a sentence's words that one window has in the same order: 0 to 1."""
    if not gold:
        return 1.0
    size = math.ceil(1.5 * len(gold) + 2)
    best = 0
    for start in range(max(1, len(kept) - size + 1)):
        best = max(best, common_subsequence_length(gold, kept[start : start + size]))
        if best == len(gold):
            break
    return best / len(gold)


def common_subsequence_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, with a row of its table in the bits of one number.

    Source: Crochemore, Iliopoulos, Pinzon, Reid, "A fast and practical bit-vector algorithm for the
    longest common subsequence problem", 2001.
    """
    positions: dict[str, int] = {}
    for i, word in enumerate(a):
        positions[word] = positions.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hit = row & positions.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(a) - row.bit_count()


def fold_text(text: str) -> str:
    """The text, case-folded, with every run of white space as one space."""
    return " ".join(text.casefold().split())


def find_evidence(
    kept: str, gold: Sequence[str], answers: Sequence[str], context: str
) -> dict[str, Any]:
    """The gold sentences and answers that a kept text has.

    Returns:
        evidence: share of gold sentences found. all: whether every one is. words: mean share of
        their words. answer: whether the text has an answer; None where the context has none.
    """
    words = words_of(kept)
    shares = [share_found(words_of(sentence), words) for sentence in gold]
    found = [share >= MIN_FOUND_SHARE for share in shares]
    folded_context, folded_kept = fold_text(context), fold_text(kept)
    possible = [s for answer in answers if (s := fold_text(answer)) and s in folded_context]
    return {
        "evidence": sum(found) / len(found),
        "all": all(found),
        "words": sum(shares) / len(shares),
        "answer": any(answer in folded_kept for answer in possible) if possible else None,
    }


_ANSWER_TYPES = {"ms": float, "cpu_ms": float, "peak_mib": float, "text": str}


@dataclass(frozen=True, slots=True)
class PeerRunSettings:
    """Settings of the peers' processes.

    Attributes:
        proxy: the proxy of all peers, by zoo name or folder.
        proxy_folder: the folder of its model.
        weights: folders of the peers that have a model of their own.
        threads: of each process. timeout_s: of one case. log_folder: for what processes print.
    """

    proxy: str
    proxy_folder: Path
    weights: Mapping[str, Path]
    threads: int
    timeout_s: float
    log_folder: Path


def row_key(case: PeerCase, peer: Peer) -> str:
    """The key of a row, which depends on everything in the request."""
    return f"{case.set}/{case.id}/{peer.name}/{case.digest()}"


def create_process(registry: PeerRegistry, peer: Peer, settings: PeerRunSettings) -> PeerProcess:
    """The process of a peer, not yet started.

    Raises:
        BadInput: the peer has no adapter.
    """
    if not peer.adapter.is_file():
        raise BadInput(f"{peer.name}: there is no adapter {peer.adapter}")
    adapter_settings = {
        "model": settings.proxy,
        "proxy": str(settings.proxy_folder),
        "scratch": str(settings.log_folder / f"{peer.name}-proxy"),
        **peer.options,
    }
    if peer.name in settings.weights:
        adapter_settings["weights"] = str(settings.weights[peer.name])
    return PeerProcess(
        registry.python_path(peer),
        peer.adapter,
        adapter_settings,
        settings.threads,
        settings.log_folder / f"{peer.name}.log",
        settings.timeout_s,
    )


def _alternate_peers(
    pairs: Sequence[tuple[PeerCase, Peer]],
) -> Iterator[Sequence[tuple[PeerCase, Peer]]]:
    """The pairs of each case, starting with another peer than those of the case before."""
    by_case: dict[tuple[str, str], list[tuple[PeerCase, Peer]]] = {}
    for case, peer in pairs:
        by_case.setdefault((case.set, case.id), []).append((case, peer))
    for turn, of_case in enumerate(by_case.values()):
        start = turn % len(of_case)
        yield (*of_case[start:], *of_case[:start])


def _warm_up(process: PeerProcess, case: PeerCase) -> None:
    """Loads the peer's models, and makes one short call that is not timed."""
    try:
        process.start()
    except PeerFailed as error:
        raise PeerFailed(f"{error}; leave it out with --peers, or mend it") from error
    # a peer that fails here fails in its first timed case, too, and the row has the error
    with suppress(PeerFailed):
        process.run_case(case.warm_up_request())


def result_row(
    case: PeerCase, peer: Peer, process: PeerProcess, counter: TextTokenizer
) -> ResultRow:
    """One row: the kept text, its costs and the evidence in it; or the error."""
    row: ResultRow = {
        "key": row_key(case, peer),
        "set": case.set,
        "case": case.id,
        "peer": peer.name,
        "tokens_in": case.tokens,
        "budget_tokens": case.budget_tokens,
    }
    try:
        answer = process.run_case(case.request)
        if "error" in answer:
            return row | {"error": str(answer["error"])}
        cost = {name: kind(answer[name]) for name, kind in _ANSWER_TYPES.items()}
    except (PeerFailed, LookupError, TypeError, ValueError) as error:
        return row | {"error": f"{type(error).__name__}: {error}"}
    kept = cost["text"]
    evidence = find_evidence(kept, case.gold, case.answers, case.request["context"])
    facts = {"tokens_out": counter.count(kept), "versions": process.versions}
    return row | facts | cost | evidence


MeasuredRow = Mapping[str, Any]


def peer_figures(
    cases: Sequence[PeerCase],
    peers: Sequence[Peer],
    rows: Sequence[MeasuredRow],
    registry: PeerRegistry,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of one set, for each peer.

    Args:
        cases: of the set. rows: of any run; those of other cases are left out.
        registry: times are divided by those of its reference, and evidence is compared with it.
    """
    by_key = {row["key"]: row for row in rows}
    by_peer = {
        peer.name: [by_key[key] for case in cases if (key := row_key(case, peer)) in by_key]
        for peer in peers
    }
    base = by_peer.get(registry.reference, [])
    summaries = {
        peer.name: _peer_summary(peer, own) | _compare_with_reference(base, own, seed)
        for peer in peers
        if (own := by_peer[peer.name])
    }
    return {
        "cases": len(cases),
        "mean_tokens_in": statistics.fmean(case.tokens for case in cases),
        "mean_budget_tokens": statistics.fmean(case.budget_tokens for case in cases),
        "peers": summaries,
        "frontier": frontier(summaries),
    }


def complete_cases(
    cases: Sequence[PeerCase], peers: Sequence[Peer], rows: Sequence[MeasuredRow]
) -> list[PeerCase]:
    """The cases for which every peer has a row, failed ones included."""
    keys = {row["key"] for row in rows}
    return [case for case in cases if all(row_key(case, peer) in keys for peer in peers)]


def _peer_summary(peer: Peer, rows: Sequence[MeasuredRow]) -> dict[str, Any]:
    """Figures of one peer; failed cases are counted and left out of means."""
    identity = {"label": peer.label, "ours": peer.ours}
    done = [row for row in rows if "error" not in row]
    errors = {"cases": len(rows), "errors": len(rows) - len(done)}
    if not done:
        return identity | errors
    ms = [row["ms"] for row in done]
    answers = [row["answer"] for row in done if row["answer"] is not None]
    return (
        identity
        | errors
        | {
            "evidence": statistics.fmean(row["evidence"] for row in done),
            "all": statistics.fmean(row["all"] for row in done),
            "words": statistics.fmean(row["words"] for row in done),
            "answer": statistics.fmean(answers) if answers else None,
            "answerable": len(answers),
            "kept": sum(row["tokens_out"] for row in done) / sum(row["tokens_in"] for row in done),
            "over_budget": sum(row["tokens_out"] > row["budget_tokens"] for row in done),
            "ms_p50": statistics.median(ms),
            "ms_p95": float(np.percentile(ms, 95)),
            "cpu_ms_p50": statistics.median(row["cpu_ms"] for row in done),
            "peak_mib": max(row["peak_mib"] for row in done),
            "versions": done[-1]["versions"],
        }
    )


def _time_ratio(
    clock: str, pairs: Sequence[tuple[MeasuredRow, MeasuredRow]], seed: int
) -> dict[str, float]:
    """The ratio of times by one of the two clocks, `ms` or `cpu_ms`."""
    theirs, reference = [row[clock] for _, row in pairs], [row[clock] for row, _ in pairs]
    interval = ratio_of_medians(theirs, reference, seed=seed)
    return dict(zip(("ratio", "low", "high"), interval, strict=True))


def ratio_of_medians(
    nums: Sequence[float], dens: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """`median(nums) / median(dens)` and its 95 % bootstrap interval over cases.

    Args:
        nums, dens: one number per case, of the same cases: `[C]`.
    """
    pairs = np.array([nums, dens], dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, pairs.shape[1], (draws, pairs.shape[1]))
    over, under = np.median(pairs[:, drawn], axis=2)
    low, high = np.percentile(over / under, (2.5, 97.5))
    ratio = np.median(pairs[0]) / np.median(pairs[1])
    return float(ratio), float(low), float(high)


def frontier(peers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The peers that keep more evidence than every faster one, from the fastest on."""
    best, on_frontier = -1.0, []
    timed = [name for name, of in peers.items() if "ms_p50" in of]
    for name in sorted(timed, key=lambda n: (peers[n]["ms_p50"], -peers[n]["evidence"])):
        if peers[name]["evidence"] > best:
            best = peers[name]["evidence"]
            on_frontier.append(name)
    return on_frontier
