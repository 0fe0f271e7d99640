"""`bench later-use`: what an agent uses later of a tool's result, and whether it is still there.

A label that needs no judge: a line of a result is gold if an identifier, path, number or quoted
string of it, absent from everything earlier in the conversation, appears in the arguments of a
later call or in the final answer. Where several lines have it, any one of them does. Of JSON the
lines are its scalars, each with its key.

    trajectory ─ uses ─► gold lines of each result ─┐
               ─ results, call, last turn ─ shorten ─┴─► lines kept, calls that need what is gone

A call is a *re-fetch* if something that it needs stood in a result alone, and no message before
the call has it once the results are shortened: an agent would have to ask for it again.

Trajectories: tau-bench (Yao et al., 2024), whose airline half is for fitting and choosing, its
retail half for judging; SWE-agent's demonstrations (Yang et al., 2024), for judging.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from tamis.compressors.rules import Budget
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.readers.outputs.json_parts import JsonNode, json_tree
from tamis.text.types import Passage, Unit
from tamis_lab.bench.study import Study, ends, table
from tamis_lab.bench.tools import (
    LabelledOutput,
    OutputCompressor,
    Shortened,
    ToolCompressor,
    build_scorer,
    compressor_makers,
    ends_first,
    fill_lines,
)
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart, marks_by_row

EPILOG = """
**Examples**

`tamis lab bench later-use --tau-bench tau-bench --swe-agent SWE-agent`

`tamis lab bench later-use --swe-agent SWE-agent --half judged --method lexical,embedding`

The data are those of github.com/sierra-research/tau-bench and github.com/SWE-agent/SWE-agent.
"""
LEAST_TOKENS = 100
"""Smaller results are not shortened."""
HALVES = ("fitted", "judged")
_PLAIN = ("best", "head_tail", "truncated", "bm25_lines", "minilm_lines")


@report_errors()
def later_use(
    tau_bench: Annotated[
        Path | None, typer.Option(help="A checkout of tau-bench.", show_default=False)
    ] = None,
    swe_agent: Annotated[
        Path | None,
        typer.Option(help="A folder with .traj files of SWE-agent.", show_default=False),
    ] = None,
    ratio: Annotated[
        str, typer.Option("--ratio", help="Shares of a result's tokens, with commas.")
    ] = ".1,.2,.3,.5",
    methods: shared.Methods = "lexical",
    against: Annotated[
        str | None,
        typer.Option(
            help="What to compare with, with commas: best (gold lines first), head_tail, "
            "truncated (the middle is cut), bm25_lines, minilm_lines, and packages of "
            "peers/tools. Default: all that can run here.",
            show_default=False,
        ),
    ] = None,
    half: Annotated[
        str | None, typer.Option(help="Only `fitted` or `judged`.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most N runs of a set.", show_default=False)
    ] = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    results: Annotated[
        Path | None,
        typer.Option("--results", "--rows", help="Rows; a run that was cut short goes on."),
    ] = None,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Shorten the results in agents' runs, and see whether what was used later is still there."""
    study, ratios = Study(as_json, plot, results), shared.parse_shares(ratio, "ratio")
    runs = read_runs(tau_bench, swe_agent, half, limit)
    counter = counter_of("proxy", proxy)
    with ExitStack() as stack:
        compressors: dict[str, OutputCompressor] = {
            f"tamis {name}": ToolCompressor(build_scorer(name, proxy), counter)
            for name in shared.parse_list(methods, "method")
        }
        wanted = None if against is None else shared.parse_list(against, "against")
        plain = {name: partial(_plain, name, counter, proxy) for name in _PLAIN}
        makers = compressor_makers(plain, wanted, proxy, stack)
        compressors |= {
            name: make() for name, make in makers.items() if wanted is None or name in wanted
        }
        study.keep_rows({"proxy": proxy, "half": half, "limit": limit})
        with study.bars():
            rows = tally_runs(runs, compressors, ratios, counter, study)
    figures = later_use_figures(rows, seed)
    study.publish(
        {"seed": seed, "limit": limit, "proxy": proxy, "sets": figures},
        lambda: _tables(figures),
        lambda: list(_charts(figures)),
    )


def _plain(name: str, counter: TextTokenizer, proxy: str) -> OutputCompressor:
    if name == "truncated":
        return MiddleCut(counter)
    orders: dict[str, Callable[[LabelledOutput, Sequence[Line]], list[int]]] = {
        "best": gold_first,
        "head_tail": ends_first,
    }
    if name not in orders:
        scorer = build_scorer("lexical" if name == "bm25_lines" else "embedding", proxy)

        def by_score(labelled: LabelledOutput, lines: Sequence[Line]) -> list[int]:
            units = [Unit(0, a, b, (a, b), "entry") for a, b in lines]
            found = scorer.scores(labelled.asked, [Passage(labelled.text)], units).values
            return sorted(range(len(lines)), key=lambda i: -found[i])

        orders[name] = by_score
    return LinesFirst(orders[name], counter, skips=name != "head_tail")


# ── trajectories ──────────────────────────────────────────────────────────────────────────────────

Role = Literal["said", "thought", "call", "result"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a run, or one call of a message.

    Attributes:
        role: `said` by a user or the system, `thought` of the assistant, a `call`, its `result`.
        text: of a call its arguments. name: of the tool that is called, or gave the result.
        arguments: of the call that a result answers.
        is_user: whether a user said it.
    """

    role: Role
    text: str
    name: str = ""
    arguments: str = ""
    is_user: bool = False


@dataclass(frozen=True)
class Trajectory:
    """One run of an agent.

    Attributes:
        set: which set it is of. half: `fitted` or `judged`.
        group: runs of one task are drawn together for intervals.
    """

    id: str
    set: str
    half: str
    group: str
    turns: tuple[Turn, ...]

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """What later turns use of results, in their order."""
        return tuple(find_uses(self.turns))

    def question(self, at: int) -> str | None:
        """What the user said last before a turn, as a hook finds it in the transcript."""
        said = (t.text for t in reversed(self.turns[:at]) if t.is_user and t.text.strip())
        return next(said, None)


def read_runs(
    tau_bench: Path | None,
    swe_agent: Path | None,
    half: str | None = None,
    limit: int | None = None,
) -> list[Trajectory]:
    """The runs of the sets that are given.

    Args:
        half: `fitted`, `judged` or both. limit: the most runs of a set.

    Raises:
        BadInput: no set, no such half, or a file that is missing or no trajectory.
    """
    if half is not None and half not in HALVES:
        raise BadInput(f"there is no half {half!r}; there are: {', '.join(HALVES)}")
    if tau_bench is None and swe_agent is None:
        raise BadInput("there are no trajectories; give --tau-bench or --swe-agent with a folder")
    sets: list[list[Trajectory]] = []
    if tau_bench is not None:
        few = tau_bench / "few_shot_data"
        airline = tau_bench / "historical_trajectories/gpt-4o-airline.json"
        sets += [
            _read(airline, lambda file: read_tau_bench(file, "airline")),
            _read(few / "MockAirlineDomainEnv-few_shot.jsonl", read_few_shots),
            _read(few / "MockRetailDomainEnv-few_shot.jsonl", read_few_shots),
        ]
    if swe_agent is not None:
        files = sorted(swe_agent.rglob("*.traj"))
        if not files:
            raise BadInput(f"{swe_agent} has no .traj files; give a checkout of SWE-agent")
        sets.append([run for file in files for run in _read(file, read_swe_agent)])
    return [run for of in sets for run in of[:limit] if half in (None, run.half)]


def _read(file: Path, read: Callable[[Path], list[Trajectory]]) -> list[Trajectory]:
    try:
        return read(file)
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); give the checkout") from error
    except (LookupError, TypeError, ValueError) as error:
        raise BadInput(f"{file} is no file of trajectories: {error!r}") from error


def read_tau_bench(file: Path, domain: str) -> list[Trajectory]:
    """The runs of a file of tau-bench's historical trajectories: messages as OpenAI has them."""
    return [
        Trajectory(
            f"{domain}-{row['task_id']}-{row['trial']}",
            f"tau-bench {domain}",
            "fitted" if domain == "airline" else "judged",
            f"{domain}-{row['task_id']}",
            tuple(_turns_of_messages(row["traj"])),
        )
        for row in json.loads(file.read_text("utf-8"))
    ]


def _turns_of_messages(messages: Sequence[Mapping[str, Any]]) -> Iterator[Turn]:
    calls: dict[str, tuple[str, str]] = {}
    for message in messages:
        role, text = message["role"], str(message.get("content") or "")
        if role == "tool":
            yield Turn("result", text, *calls.get(message.get("tool_call_id", ""), ("", "")))
            continue
        said: Role = "thought" if role == "assistant" else "said"
        if text:
            yield Turn(said, text, is_user=role == "user")
        for call in message.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            calls[call["id"]] = (name, arguments)
            yield Turn("call", arguments, name)


_SHOWN_TURN = re.compile(r"^(user|assistant|tool): ", re.M)


def read_few_shots(file: Path) -> list[Trajectory]:
    """The runs of a file of tau-bench's few shots, which are texts without the calls.

    The arguments of a call are read off its result: the id of what was asked for, and what was not
    there when the same was seen before.
    """
    domain = "airline" if "Airline" in file.name else "retail"
    half = "fitted" if domain == "airline" else "judged"
    found = []
    for n, line in enumerate(file.read_text("utf-8").splitlines()):
        text = json.loads(line)["messages_display"]
        starts = [*_SHOWN_TURN.finditer(text)]
        stops = [m.start() for m in starts[1:]] + [len(text)]
        turns: list[Turn] = []
        seen: dict[str, dict[str, Any]] = {}
        for m, stop in zip(starts, stops, strict=True):
            shown = text[m.end() : stop].rstrip("\n")
            if m[1] == "tool":
                arguments = _hidden_arguments(shown, seen)
                turns += [Turn("call", arguments), Turn("result", shown, "", arguments)]
            elif m[1] == "user" or shown != "None":
                role: Role = "said" if m[1] == "user" else "thought"
                turns.append(Turn(role, shown, is_user=m[1] == "user"))
        name = f"{domain}-shot-{n}"
        found.append(Trajectory(name, f"tau-bench {domain}", half, name, tuple(turns)))
    return found


def _hidden_arguments(result: str, seen: dict[str, dict[str, Any]]) -> str:
    value = _parsed(result)
    if not isinstance(value, dict):
        return "{}"
    key = next((k for k, v in value.items() if k.endswith("_id") and isinstance(v, str)), None)
    if key is None:
        return "{}"
    before = seen.get(value[key])
    seen[value[key]] = value
    new = {} if before is None else {k: v for k, v in value.items() if k not in before}
    return json.dumps({key: value[key]} | new)


def read_swe_agent(file: Path) -> list[Trajectory]:
    """The run of a `.traj` file; the instance that it solves is its group."""
    turns: list[Turn] = []
    call, has_begun = ("", ""), False
    for message in json.loads(file.read_text("utf-8"))["history"]:
        role, text = message["role"], message["content"] or ""
        if role == "assistant":
            has_begun = True
            turns.append(Turn("thought", message.get("thought") or ""))
            call = ("bash", (message.get("action") or "").strip())
            turns.append(Turn("call", call[1], call[0]))
        elif has_begun:
            turns.append(Turn("result", text, *call))
        else:
            is_user = role == "user" and not message.get("is_demo")
            turns.append(Turn("said", text, is_user=is_user))
    name = "/".join(file.parts[-2:]).removesuffix(".traj")
    return [Trajectory(name, "SWE-agent", "judged", file.stem, tuple(turns))]


# ── what is used ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Use:
    """Something that a turn uses of an earlier result, where it stood first.

    Attributes:
        value: as it is written. result, turn: numbers of the turns that have and use it.
    """

    value: str
    result: int
    turn: int


_TOKEN = re.compile(r"[\w#@$~][\w#@$~./+-]*")
_QUOTED = re.compile(r'"([^"\n]{3,100})"|\'([^\'\n]{3,100})\'')
_TELLING = re.compile(
    r"(?=.*\d)(?=.*[^\W\d]).{3,}"  # letters and digits: HAT136, 2024-05-20, #W2378156
    r"|[^\W\d]*[\w#@$~+-]*[_/@#.~][\w/][\w#@$~./+-]*"  # names with marks within, paths
    r"|\w*[a-z][A-Z]\w*"  # TimeDelta
    r"|\d{3,}|\d+\.\d+|\d+(?:-\d+)+"
)
_LEAST_CHARS = 3


def used_values(text: str) -> list[str]:
    """Identifiers, paths, numbers and quoted strings of a text, each once.

    Numbers of one or two digits are none: they stand everywhere.
    """
    value = _parsed(text)
    found = []
    if isinstance(value, dict | list):
        found += [leaf for leaf in _leaves(value) if _LEAST_CHARS <= len(leaf) <= 100]
        text = "\n".join(_leaves(value))
    else:
        found += [a or b for a, b in _QUOTED.findall(text)]
    found = [one.strip() for one in found if any(c.isalnum() for c in one)]
    # small numbers that stand alone are in every text
    found = [one for one in found if not one.isdecimal() or len(one) >= _LEAST_CHARS]
    tokens = (m.group().rstrip("./+-") for m in _TOKEN.finditer(text))
    found += [t for t in tokens if len(t) >= _LEAST_CHARS and _TELLING.fullmatch(t)]
    return list(dict.fromkeys(one for one in found if len(one) >= _LEAST_CHARS))


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def has_value(text: str, value: str) -> bool:
    """Whether a value stands in a text, not within a longer word or number."""
    return value in text and _pattern(value).search(text) is not None


def _pattern(value: str) -> re.Pattern[str]:
    before = r"(?<!\w)(?<!\d\.)" if value[0].isalnum() or value[0] == "_" else ""
    after = r"(?!\w)(?!\.\d)" if value[-1].isalnum() or value[-1] == "_" else ""
    return re.compile(before + re.escape(value) + after)


def find_uses(turns: Sequence[Turn]) -> Iterator[Use]:
    """What calls and the final answer use of results that had it first.

    Of a path that stands nowhere the longest ending is taken that does.
    """
    final = max((i for i, turn in enumerate(turns) if turn.role == "thought"), default=-1)
    users = [i for i, turn in enumerate(turns) if turn.role == "call"]
    if final > max(users, default=-1):
        users.append(final)
    for at in users:
        seen = set()
        for value in used_values(turns[at].text):
            for part in _endings(value):
                first = next((i for i in range(at) if _stands(turns[i], part)), None)
                if first is None:
                    continue
                if turns[first].role == "result" and (first, part) not in seen:
                    seen.add((first, part))
                    yield Use(part, first, at)
                break


def _stands(turn: Turn, value: str) -> bool:
    return has_value(turn.text, value) or value == turn.name


def _endings(path: str) -> Iterator[str]:
    yield path
    at = path.find("/")
    while 0 <= at < len(path) - _LEAST_CHARS:
        yield path[at + 1 :]
        at = path.find("/", at + 1)


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────

Line = tuple[int, int]
"""A line's span, or that of a JSON scalar with its key."""


def lines_of_result(text: str) -> list[Line]:
    """The lines of a text with their ends; of JSON its scalars, each with its key."""
    start, stop = len(text) - len(text.lstrip()), len(text.rstrip())
    if isinstance(_parsed(text), dict | list):
        found = list(_scalars(json_tree(text, start, stop)))
        if found:
            return found
    spans, at = [], 0
    for line in text.splitlines(keepends=True):
        spans.append((at, at + len(line)))
        at += len(line)
    return spans


def _scalars(node: JsonNode) -> Iterator[Line]:
    stack = [node]
    while stack:
        one = stack.pop()
        if one.children:
            stack += reversed(one.children)
        elif one.kind not in "[{":
            yield one.first, one.stop


@dataclass(frozen=True, slots=True)
class Result:
    """A result that is shortened, with what is used of it.

    Attributes:
        turn: its number. labelled: its text and call, with the question that is known with it.
        gold: for each line that is used, the texts of which one has to be kept.
        values: that are used. errors: lines that say what failed.
    """

    turn: int
    labelled: LabelledOutput
    gold: tuple[frozenset[str], ...]
    values: tuple[str, ...]
    errors: tuple[str, ...]


_ERROR = re.compile(
    r"^(?:E   .*|(?:\w+\.)*\w*(?:Error|Exception)\b(?:: .*)?"
    r"|\s*(?:error|fatal|ERROR|FATAL|FAILED)\b.*"
    r"|- [A-Z]\d{3} .*|bash: .*|.*: (?:command not found|No such file or directory))$"
)


def results_of(run: Trajectory, counter: TextTokenizer) -> list[Result]:
    """The results of a run that are large enough to be shortened."""
    at = [i for i, turn in enumerate(run.turns) if turn.role == "result" and turn.text.strip()]
    counts = counter.count_many([run.turns[i].text for i in at])
    return [_result(run, i) for i, n in zip(at, counts, strict=True) if n >= LEAST_TOKENS]


def _result(run: Trajectory, at: int) -> Result:
    turn = run.turns[at]
    values = tuple(dict.fromkeys(use.value for use in run.uses if use.result == at))
    lines = lines_of_result(turn.text)
    gold: dict[frozenset[str], Line] = {}
    for value in values:
        spans = [(a, b) for a, b in lines if has_value(turn.text[a:b], value)]
        if spans:
            gold.setdefault(frozenset(turn.text[a:b].strip() for a, b in spans), spans[0])
    texts = [turn.text[a:b].strip() for a, b in lines]
    errors = tuple(dict.fromkeys(text for text in texts if _ERROR.match(text)))
    output = ToolOutput(turn.text, turn.name or None, turn.arguments or None)
    labelled = LabelledOutput(
        f"{run.id}/{at}", run.set, output, run.question(at), tuple(gold.values()), (), ()
    )
    return Result(at, labelled, tuple(gold), values, errors)


def has_line(shown: str, shown_lines: frozenset[str], line: str) -> bool:
    """Whether a shortened text has a line, or a JSON scalar with its key, however it is spaced."""
    if line in shown_lines:
        return True
    key, colon, value = line.partition('": ')
    if not colon or not line.startswith('"'):
        return '"' in line and line in shown
    return has_value(shown, line) or has_value(shown, f'{key}":{value}')


# ── ways to shorten ───────────────────────────────────────────────────────────────────────────────


class LinesFirst:
    """Lines by some order, as many as fit, without markers; of JSON scalars, without brackets.

    That is more than an agent could be shown, so it favours what is compared with tamis.
    """

    def __init__(
        self,
        order: Callable[[LabelledOutput, Sequence[Line]], list[int]],
        counter: TextTokenizer,
        skips: bool = True,
    ) -> None:
        """`order` gives the numbers of the lines; `skips`: whether it goes on behind a misfit."""
        self.order, self.counter, self.skips = order, counter, skips

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """Ordered once, filled at each limit."""
        lines = lines_of_result(labelled.text)
        texts = [labelled.text[a:b].rstrip("\r\n") + "\n" for a, b in lines]
        costs, order = self.counter.count_many(texts), self.order(labelled, lines)
        kept = [fill_lines(order, costs, limit, self.skips) for limit in limits]
        return [Shortened("".join(texts[i] for i in of), 0.0) for of in kept]


def gold_first(labelled: LabelledOutput, lines: Sequence[Line]) -> list[int]:
    """The gold lines, the shortest first: the most that lines can keep, markers aside."""
    gold = set(labelled.gold)
    return sorted(
        range(len(lines)), key=lambda i: (lines[i] not in gold, lines[i][1] - lines[i][0])
    )


class MiddleCut:
    """The first and the last characters of a text, with a note between, as Codex cuts outputs."""

    NOTE = "\n…{} tokens truncated…\n"

    def __init__(self, counter: TextTokenizer) -> None:
        self.counter = counter

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """As many characters as fit, half of them at each end."""
        tokens = self.counter.count(labelled.text)
        return [Shortened(self._cut(labelled.text, tokens, n), 0.0) for n in limits]

    def _cut(self, text: str, tokens: int, limit: int) -> str:
        side = len(text) * limit // max(1, tokens) // 2
        while side > 0:
            shown = text[:side] + self.NOTE.format(tokens - limit) + text[len(text) - side :]
            if self.counter.count(shown) <= limit:
                return shown
            side = side * 9 // 10
        return ""


# ── rows and figures ──────────────────────────────────────────────────────────────────────────────


def tally_runs(
    runs: Sequence[Trajectory],
    compressors: Mapping[str, OutputCompressor],
    ratios: Sequence[float],
    counter: TextTokenizer,
    study: Study | None = None,
) -> Sequence[Mapping[str, Any]]:
    """A row a run, compressor and ratio: counts over its results and calls.

    Args:
        ratios: shares of a result's tokens by `counter`, above 0 and at most 1.
    """

    @cache
    def results(at: int) -> list[Result]:
        return results_of(runs[at], counter)

    @lru_cache(maxsize=1)
    def shorten(at: int, name: str) -> list[tuple[int, list[Shortened]]]:
        """A run is shortened once for all ratios."""
        done = []
        for one in results(at):
            tokens = counter.count(one.labelled.text)
            limits = [Budget(ratio=ratio).tokens(tokens) or tokens for ratio in ratios]
            done.append((tokens, compressors[name].shorten(one.labelled, limits)))
        return done

    def measure(case: tuple[int, str, int]) -> Mapping[str, Any]:
        at, name, place = case
        shown = [of[place] for _, of in shorten(at, name)]
        texts = {one.turn: each.text for one, each in zip(results(at), shown, strict=True)}
        facts = {
            "compressor": name,
            "ratio": ratios[place],
            "set": runs[at].set,
            "half": runs[at].half,
            "group": runs[at].group,
            "tokens_in": sum(tokens for tokens, _ in shorten(at, name)),
            "tokens_out": sum(counter.count_many([*texts.values()])),
            "failed": sum(each.error is not None for each in shown),
        }
        return facts | tally_run(runs[at], results(at), texts)

    cases = {
        f"{run.set}/{run.id}/{name}/{ratio:g}": (at, name, place)
        for at, run in enumerate(runs)
        for name in compressors
        for place, ratio in enumerate(ratios)
    }
    return (study or Study()).rows("runs", cases, measure)


def tally_run(
    run: Trajectory, results: Sequence[Result], shown: Mapping[int, str]
) -> dict[str, Any]:
    """What is lost of a run whose results are shortened.

    Args:
        shown: the shortened texts by the numbers of their turns.
    """
    counts = dict.fromkeys(
        ("gold", "kept", "values", "values_kept", "results", "whole", "errors", "errors_lost"), 0
    )
    misses = []
    for one in results:
        text = shown[one.turn]
        lines = frozenset(line.strip() for line in text.splitlines())
        lost = [of for of in one.gold if not any(has_line(text, lines, line) for line in of)]
        counts["gold"] += len(one.gold)
        counts["kept"] += len(one.gold) - len(lost)
        counts["values"] += len(one.values)
        counts["values_kept"] += sum(has_value(text, value) for value in one.values)
        counts["results"] += bool(one.gold)
        counts["whole"] += bool(one.gold) and not lost
        counts["errors"] += len(one.errors)
        counts["errors_lost"] += sum(not has_line(text, lines, line) for line in one.errors)
        misses += [[one.turn, min(of)] for of in lost]
    texts = [shown.get(i, turn.text) for i, turn in enumerate(run.turns)]
    large = {one.turn for one in results}
    calls = [i for i, t in enumerate(run.turns) if t.role == "call" and large & set(range(i))]
    needs = {i: [u for u in run.uses if u.turn == i and u.result in large] for i in calls}
    again = [
        i
        for i, uses in needs.items()
        if any(not any(has_value(text, u.value) for text in texts[u.result : i]) for u in uses)
    ]
    counts |= {"calls": len(calls), "refetched": len(again)}
    return {**counts, "misses": misses}


def later_use_figures(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Figures by set, ratio and compressor; intervals are of a bootstrap over tasks."""
    return {
        name: {
            f"{ratio:g}": {
                compressor: _figures(
                    [
                        row
                        for row in rows
                        if row["set"] == name
                        and row["ratio"] == ratio
                        and row["compressor"] == compressor
                    ],
                    seed,
                )
                for compressor in dict.fromkeys(row["compressor"] for row in rows)
            }
            for ratio in dict.fromkeys(row["ratio"] for row in rows)
        }
        for name in dict.fromkeys(row["set"] for row in rows)
    }


def _figures(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    groups: dict[str, dict[str, int]] = {}
    for row in rows:
        of = groups.setdefault(row["group"], dict.fromkeys(_COUNTS, 0))
        for name in _COUNTS:
            of[name] += row[name]
    total = {name: sum(of[name] for of in groups.values()) for name in _COUNTS}

    def share(part: str, whole: str) -> dict[str, float]:
        some = [of for of in groups.values() if of[whole]]
        if not some:
            return {"value": 1.0, "low": 1.0, "high": 1.0}
        parts, wholes = ([of[name] for of in some] for name in (part, whole))
        return paired_interval(parts, [0] * len(some), wholes, seed=seed, name="value")

    return {
        **total,
        "runs": len(rows),
        "gold_kept": share("kept", "gold"),
        "values_kept_share": total["values_kept"] / max(1, total["values"]),
        "all_gold_kept": share("whole", "results"),
        "refetch_rate": share("refetched", "calls"),
        "tokens_kept": total["tokens_out"] / max(1, total["tokens_in"]),
    }


_COUNTS = (
    *("gold", "kept", "values", "values_kept", "results", "whole", "errors", "errors_lost"),
    *("calls", "refetched", "tokens_in", "tokens_out", "failed"),
)


def _tables(figures: Mapping[str, Any]) -> Iterator[Any]:
    """A table a set and ratio."""
    for name, ratios in figures.items():
        for ratio, compressors in ratios.items():
            one = next(iter(compressors.values()))
            sizes = f"{one['runs']} runs, {one['gold']} gold lines, {one['calls']} later calls"
            heads = ("gold kept", "values", "results whole", "re-fetch", "errors lost", "tokens")
            yield table(
                f"{name} at {float(ratio):.0%} of the tokens: {sizes}",
                ("compressor", *heads),
                ([compressor, *_cells(of)] for compressor, of in compressors.items()),
            )
    yield Text(
        "gold kept: lines with what is used later [95 % interval over tasks]. values: what is "
        "used, wherever it stands in the result. re-fetch: later calls that need what was left "
        "out.\n"
    )


def _cells(of: Mapping[str, Any]) -> list[str | Text]:
    gold, again = of["gold_kept"], of["refetch_rate"]
    return [
        f"{gold['value']:.3f} {ends(gold, '.2f', 1)}",
        f"{of['values_kept_share']:.3f}",
        f"{of['all_gold_kept']['value']:.3f}",
        f"{again['value']:.3f} {ends(again, '.3f', 1)}",
        Text(f"{of['errors_lost']} of {of['errors']}", "red" if of["errors_lost"] else "green"),
        f"{of['tokens_kept']:.3f}",
    ]


def _charts(figures: Mapping[str, Any]) -> Iterator[Chart]:
    """A panel a set, in it a row a share of the tokens and a mark a compressor."""
    for name, ratios in figures.items():
        kept: dict[str, list[float]] = {}
        for compressors in ratios.values():
            for compressor, found in compressors.items():
                kept.setdefault(compressor, []).append(found["gold_kept"]["value"])
        rows = [f"{float(ratio):.0%}" for ratio in ratios]
        label = "lines kept of those used later"
        yield Chart(name, marks_by_row(rows, kept), label, rows=rows, shares="x")
