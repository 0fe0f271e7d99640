"""Every regular expression of the source, on texts that are made from it to take long.

    python -m tests.chaos --only patterns
    python -m tests.chaos.patterns                    the slow ones, with their place and text
    python -m tests.chaos.patterns --only filters.py

The patterns are found twice: those of `re` and `regex` that modules hold, and by the syntax tree
those that are given to functions of these modules where they are used. For each, texts are made of
the characters, words and classes that it has itself, repeated, with an end that fails. What a text
takes is measured in processor time at growing sizes, in a process that is killed if it takes too
long; a pattern is slow if its time grows clearly faster than its text.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import itertools
import math
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import regex
from rich.console import Console

from tamis.compressors.features.words import _patterns
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.text.readers.outputs.blocks import BLOCKS
from tamis.text.terms import _marked_word_pattern
from tamis_agents.before import _GUARDED, _JSON_EXTRAS, _OUTSIDE

ROOT = Path(__file__).parents[2]
FOLDERS = ("probes", "text", "compressors", "retrieval", "service", "agents")
MODULES = ("re", "regex")
FUNCTIONS = frozenset(
    ("compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
)
ONCE = "sub once"
"""The method of a pattern whose first match alone is replaced."""
SIZES = (30, 120, 500, 2000, 8000)
"""Characters of the texts, growing, so that what is exponential ends with the small ones."""
MOST_SLOPE = 1.45
"""Of log time against log size, between the largest sizes; a quadratic pattern has 2."""
LEAST_S, ENOUGH_S = 0.004, 0.05
"""What takes less at the largest size is quick; what takes more at any is not made longer."""
CPU_S = 10
"""Of one pattern with all its texts."""
COMMON = (*" \n\t\"'`()[]{}<>=:;,.-_/\\|&#*+!?%@$~^0aA", "\r", "é", "漢", "\u0301")
ENDS = ("", "\0", "\n\0")
_MOST_TEXTS = 800


@dataclass(frozen=True, slots=True)
class UsedPattern:
    """A pattern and how it is used.

    Attributes:
        place: file, line and name. module: `re` or `regex`. methods: those that are called.
    """

    place: str
    module: str
    source: str | bytes
    flags: int
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slowness:
    """A pattern whose time grows faster than its text: with which method, and on what."""

    pattern: UsedPattern
    method: str
    text: tuple[str, str, str]
    times: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        start, part, end = self.text
        shown = ", ".join(f"{size:,}: {taken * 1e3:.1f} ms" for size, taken in self.times)
        return (
            f"{self.pattern.place} {self.method} {self.pattern.source!r} on "
            f"{start!r} + {part!r} * n + {end!r} ({shown or 'no end'})"
        )


def source_files(root: Path = ROOT, folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """The modules below these folders, their tests left out."""
    found = [file for top in folders for file in (root / top).rglob("*.py")]
    return [file for file in found if "tests" not in file.relative_to(root).parts]


def module_name(path: Path) -> str:
    """What a file installs as."""
    name = ".".join(path.with_suffix("").parts)
    return f"tamis_{name}" if path.parts[0] == "agents" else f"tamis.{name}"


def find_patterns(root: Path = ROOT, folders: tuple[str, ...] = FOLDERS) -> list[UsedPattern]:
    """All patterns of the source.

    Raises:
        LookupError: a pattern that is made where it is used, and cannot be told from outside.
    """
    files = {f: ast.parse(f.read_text()) for f in source_files(root, folders)}
    calls = {file: list(_calls(tree)) for file, tree in files.items()}
    uses = _uses(files)
    found, unknown = [], []
    for file in sorted(file for file, of_file in calls.items() if of_file):
        path = file.relative_to(root)
        module = importlib.import_module(module_name(path))
        for call, name in calls[file]:
            place = f"{path}:{call.lineno} {name}"
            try:
                made = _evaluate(call, vars(module))
            except NameError:
                if f"{path} {name}" in OF_CALLERS:
                    continue
                made = list(LOCAL.get(f"{path} {name}", tuple)())
            if not made:
                unknown.append(place)
            assert isinstance(call.func, ast.Attribute)
            home = path.with_suffix("").parts
            used = uses.get((home, name)) or uses.get((home, ""), frozenset())
            methods = (call.func.attr,) if call.func.attr != "compile" else tuple(sorted(used))
            if f"{path} {name}" in ONLY_MATCH:
                methods = ("match",)
            for one in made:
                kind = "regex" if isinstance(one, regex.Pattern) else "re"
                chosen = methods or ("finditer", "fullmatch")
                found.append(UsedPattern(place, kind, one.pattern, one.flags, chosen))
    if unknown:
        raise LookupError(f"name what these may be in LOCAL: {', '.join(unknown)}")
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Calls of the modules of patterns, each with the name that its pattern is given."""
    names = {
        id(value): target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for one in node.targets
        for target, value in _pairs(one, node.value)
        if isinstance(target, ast.Name)
    }
    names |= {id(node.args[0]): "Rule" for node in ast.walk(tree) if _is_rule(node)}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in MODULES
            and node.func.attr in FUNCTIONS
        ):
            around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
            yield node, names.get(id(node), around[-1].name if around else "")


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What an assignment names, each with its value, also where it names several at once."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


def _replaces_once(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether it is a call that replaces the first match alone."""
    if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "sub":
        return False
    counts = [*node.args[2:3], *(one.value for one in node.keywords if one.arg == "count")]
    return any(isinstance(one, ast.Constant) and one.value == 1 for one in counts)


def _is_rule(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether it is a rule of lines, whose pattern is matched alone."""
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Rule"


def _evaluate(call: ast.Call, namespace: dict[str, Any]) -> list[Any]:
    """The pattern of a call, from the names of its module.

    Raises:
        NameError: it has others.
    """
    written = ast.Expression(call.args[0])
    found = eval(compile(written, "pattern", "eval"), dict(namespace))
    return [found if hasattr(found, "pattern") else _compile_call(call, found, namespace)]


def _compile_call(call: ast.Call, source: Any, namespace: dict[str, Any] | None = None) -> Any:
    assert isinstance(call.func, ast.Attribute)
    assert isinstance(call.func.value, ast.Name)
    given = [k.value for k in call.keywords if k.arg == "flags"]
    if call.func.attr in ("compile", "match", "fullmatch", "search", "findall", "finditer"):
        given += call.args[{"compile": 1}.get(call.func.attr, 2) :][:1]
    kind = regex if call.func.value.id == "regex" else re
    flags = 0
    for one in given:
        value = ast.Expression(one)
        flags |= eval(compile(value, "flags", "eval"), {"re": re, "regex": regex})
    return kind.compile(source, flags)


def _uses(files: dict[Path, ast.Module]) -> dict[tuple[tuple[str, ...], str], frozenset[str]]:
    """By module and name, the methods that are called of a pattern, also where it is imported.

    By "" those that a module calls of anything else, such as the members of a tuple of patterns.
    """
    found: dict[tuple[tuple[str, ...], str], set[str]] = {}
    for file, tree in files.items():
        own = file.relative_to(ROOT).with_suffix("").parts if file.is_relative_to(ROOT) else ()
        homes = {
            (one.asname or one.name): (tuple((node.module or "").split("."))[1:], one.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for one in node.names
        }
        once = {id(node.func) for node in ast.walk(tree) if _replaces_once(node)}
        for node in ast.walk(tree):
            if _is_rule(node):
                name = getattr(node.args[0], "id", "Rule")
                found.setdefault((own, name), set()).add("match")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                home = homes.get(node.value.id, (own, node.value.id))
                if node.attr in FUNCTIONS and node.value.id not in MODULES:
                    method = ONCE if id(node) in once else node.attr
                    found.setdefault(home, set()).add(method)
                    found.setdefault((own, ""), set()).add(method)
    return {home: frozenset(methods) for home, methods in found.items()}


def texts_for(source: str) -> list[tuple[str, str, str]]:
    """Texts that may take a pattern long: a start, a part to repeat, and an end that fails."""
    tree = re._parser.parse(source)  # type: ignore[attr-defined]
    starts, parts = {"": 0}, dict.fromkeys(_atoms(tree), 0)
    for before, body in _repeats(tree, ""):
        starts.setdefault(before, 0)
        parts.setdefault(body, 0)
        parts.setdefault(before[-40:], 0)
    own = [part for part in parts if part]
    pairs = [a + b for a, b in itertools.pairwise(own)]
    wanted = list(dict.fromkeys([*own, *pairs, *COMMON]))
    made = [(start, part, end) for start in starts for part in wanted for end in ENDS[:2]]
    made += [("", part, ENDS[2]) for part in wanted]
    step = max(1, math.ceil(len(made) / _MOST_TEXTS))
    return [one for i, one in enumerate(made) if i % step == 0 or not one[0]]


def _atoms(tree: Any) -> Iterator[str]:
    """Characters that single parts of a pattern take, and whole alternatives."""
    for kind, value in tree:
        name = str(kind)
        if name in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            yield _sample([(kind, value)])
        for inner in _inner(name, value):
            yield _sample(inner)
            yield from _atoms(inner)


def _repeats(tree: Any, before: str) -> Iterator[tuple[str, str]]:
    """What stands before each repeat, and what is repeated."""
    for kind, value in tree:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield before, _sample(value[2])
        for inner in _inner(name, value):
            yield from _repeats(inner, before)
        before += _sample([(kind, value)])


def _inner(name: str, value: Any) -> list[Any]:
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return [value[2]]
    if name == "SUBPATTERN":
        return [value[3]]
    if name == "BRANCH":
        return list(value[1])
    if name in ("ASSERT", "ASSERT_NOT"):
        return [value[1]]
    return [value] if name == "ATOMIC_GROUP" else []


_OF_CATEGORY = {"SPACE": " ", "DIGIT": "1", "WORD": "a", "NOT_SPACE": "x", "NOT_DIGIT": "x"}


def _sample(tree: Any) -> str:
    """A short text that a part of a pattern takes, as far as that can be told from it alone."""
    found = ""
    for kind, value in tree:
        name = str(kind)
        if name == "LITERAL":
            found += chr(value)
        elif name == "NOT_LITERAL":
            found += "x" if value != ord("x") else "y"
        elif name == "ANY":
            found += "x"
        elif name == "IN":
            found += _of_class(value)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            found += _sample(value[2]) * max(1, min(value[0], 40))
        elif name == "BRANCH":
            found += _sample(value[1][0])
        elif name not in ("ASSERT", "ASSERT_NOT"):
            for inner in _inner(name, value):
                found += _sample(inner)
    return found


def _of_class(items: Any) -> str:
    negated = str(items[0][0]) == "NEGATE"
    if negated:
        out = set()
        for kind, value in items[1:]:
            if str(kind) == "LITERAL":
                out.add(chr(value))
            elif str(kind) == "CATEGORY":
                out |= {"SPACE": set(" \t\n"), "WORD": set("xa1_")}.get(str(value)[9:], set())
            elif str(kind) == "RANGE":
                out |= {c for c in "xa1 -." if value[0] <= ord(c) <= value[1]}
        return next((c for c in 'xa1 -."é' if c not in out), "\u4e00")
    kind, value = items[0]
    if str(kind) == "RANGE":
        return chr(value[0])
    if str(kind) == "CATEGORY":
        return _OF_CATEGORY.get(str(value)[9:], "-")
    return chr(value)


def is_bounded(pattern: UsedPattern) -> bool:
    """Whether a pattern may be slow, as its texts are short or of no stranger."""
    file, _, rest = pattern.place.partition(":")
    return f"{file} {rest.partition(' ')[2]}" in BOUNDED


def slowness_of(pattern: UsedPattern) -> Slowness | None:
    """The first text on which a pattern's time grows too fast, found in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_try_all, args=(pattern, theirs))
    child.start()
    theirs.close()
    last: Any = None
    try:
        while True:
            last = ours.recv()
    except EOFError:
        child.join()
    if child.exitcode == 0:
        return last
    if last is None:
        raise RuntimeError(f"{pattern.place}: the process ended with {child.exitcode}")
    return Slowness(pattern, *last, ())  # killed by its limit, while it tried this text


def _try_all(pattern: UsedPattern, pipe: Any) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S + int(time.process_time()),) * 2)
    compiled = (regex if pattern.module == "regex" else re).compile(pattern.source, pattern.flags)
    is_bytes = isinstance(pattern.source, bytes)
    source = pattern.source.decode("latin-1") if is_bytes else pattern.source
    for method in pattern.methods:
        for text in texts_for(source):
            pipe.send((method, text))
            times = _times(compiled, method, text, is_bytes)
            if _slope(times) > MOST_SLOPE:
                pipe.send(Slowness(pattern, method, text, tuple(sorted(times.items()))))
                return
    pipe.send(None)


def _times(compiled: Any, method: str, text: tuple[str, str, str], is_bytes: bool) -> Any:
    """Processor time by size, up to the first size that takes long."""
    start, part, end = text
    times = {}
    for size in SIZES:
        whole: Any = start + part * (size // len(part)) + end
        whole = whole.encode("latin-1", "replace") if is_bytes else whole
        times[size] = _least_time(compiled, method, whole, 1)
        if times[size] > ENOUGH_S:
            break
    if times[size] > LEAST_S:  # other work on the machine makes runs slower, and none faster
        for _ in range(3):
            if _slope(times) <= MOST_SLOPE:
                break
            for size in list(times)[-3:]:
                whole = start + part * (size // len(part)) + end
                whole = whole.encode("latin-1", "replace") if is_bytes else whole
                times[size] = min(times[size], _least_time(compiled, method, whole, 2))
    return times


def _least_time(compiled: Any, method: str, text: Any, runs: int) -> float:
    # of this thread: under a limit of processor time the clock of the process counts ticks of 4 ms
    least = math.inf
    for _ in range(runs):
        began = time.thread_time()
        if method == "finditer":
            for _ in compiled.finditer(text):
                pass
        elif method in ("sub", "subn", ONCE):
            count = 1 if method == ONCE else 0
            getattr(compiled, method.partition(" ")[0])(text[:0], text, count)
        else:
            getattr(compiled, method)(text)
        least = min(least, time.thread_time() - began)
    return least


def _slope(times: dict[int, float]) -> float:
    """Of log time against log size, between the largest size and one four or sixteen below it."""
    sizes = list(times)
    last = times[sizes[-1]]
    if last < LEAST_S:
        return 0.0
    before = [size for size in sizes[-3:-1] if times[size] > LEAST_S / 100]
    if not before:
        return math.inf
    return math.log(last / times[before[0]]) / math.log(sizes[-1] / before[0])


OF_CALLERS = frozenset(
    (
        "compressors/rules.py compile_protect",
        "service/http/schemas/patterns.py compile_pattern",
    )
)
"""Made of what a caller gives: over HTTP each match has a time limit, see
`service/http/schemas/patterns.py`; elsewhere who gives it runs it."""
LOCAL: dict[str, Callable[[], tuple[re.Pattern[str], ...]]] = {
    "text/terms.py _marked_word_pattern": lambda: (_marked_word_pattern(),),
    "text/readers/outputs/blocks.py _any_of": lambda: tuple(
        hint for block in BLOCKS for hint in block.hints
    ),
    "retrieval/storage/chunks.py close": lambda: (
        re.compile(r"</script\s*>", re.IGNORECASE),
        re.compile(r"-->", re.IGNORECASE),
    ),
    "compressors/features/words.py _patterns": lambda: tuple(
        form for name in ("so-10490", "3.2.0", "2025-02-07", "4f9c21e") for form in _patterns(name)
    ),
    "agents/before.py _begins_word": lambda: (re.compile(r"(?<![\w-])rm", re.IGNORECASE),),
    "agents/before.py before_answer": lambda: (
        re.compile(_GUARDED),
        re.compile(f"{_GUARDED}|{_OUTSIDE}"),
    ),
    "agents/before.py text": lambda: tuple(
        re.compile(rf'("(?:\\.|[^"\\])*")|{extra}', re.DOTALL) for extra in _JSON_EXTRAS
    ),
    "service/http/conversation/tagged.py __init__": lambda: (RetrievalTags(["context"])._tag,),
}
"""By file and name (of the variable, or of the function), the patterns that are made there."""


ONLY_MATCH = frozenset(
    f"text/readers/markdown.py {name}"
    for name in ("_INTERRUPTING_ITEM", "_TIMED", "_NICK", "_ROLE", "_SPEAKER")
)
"""Given to functions that call `match` of it, in modules that search with others."""
BOUNDED: dict[str, str] = {
    "text/units/segment.py _DOTTED": "the 12 characters before a sentence's end",
    "text/units/segment.py _SECTION_NUMBER": "the 12 characters before its end",
    "text/readers/outputs/logs.py _SAID": "the last 120 characters of a row",
    "text/readers/outputs/runners.py _PYTEST_STATUS": "rows, of 500 characters at most",
    "text/readers/outputs/runners.py _PYTEST_BARE_STATUS": "rows, of 500 characters at most",
    "text/readers/markdown.py _QUOTED": "rows at whose front it matches",
    "compressors/tools/novelty.py _IDENTIFIER": "words of the first 2,000 characters of a part",
    "compressors/tools/novelty.py _KEY": "the first 2,000 characters of a part",
    "text/readers/outputs/runners.py _UNITTEST_SKIPPED": "rows: in a text without a "
    "line break, what begins with skipped matches at the first try",
}
"""Slow patterns that get short texts."""


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser("python -m tests.chaos.patterns", description=__doc__)
    words.add_argument("--only", default="", help="a part of the place, such as a file's name")
    given = words.parse_args()
    out, slow = Console(soft_wrap=True, markup=False, highlight=False), []
    found = [p for p in find_patterns() if given.only in p.place and not is_bounded(p)]
    for one in found:
        if (bad := slowness_of(one)) is not None:
            slow.append(bad)
            out.print(str(bad))
    out.print(f"{len(found)} patterns, {len(slow)} slow")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
