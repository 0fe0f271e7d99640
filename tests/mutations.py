"""Two hundred faults put into the source, one at a time, each of which some test must notice.

    python -m tests.mutations                  all, `make mutations`: an hour of one core
    python -m tests.mutations --share 0.1      the first tenth, `SHARE=0.1`; a larger one goes on
    python -m tests.mutations --only packer    those with this in their area, file or function
    python -m tests.mutations --list           what would be tried

The faults are made from the source as it stands: operators of arithmetic, comparisons, constants
and conditions, in the areas of `NEAREST`. A hash of the seed and of a fault's own text draws them,
so that a change elsewhere draws no others, and areas and kinds take turns. They go into a copy of
the tree, never into the tree itself; the tests beside the area run on the copy. What was found is
kept in `build/mutations.jsonl` until the file of the fault or the tests that noticed it change.

A fault that no test notices is a promise that nobody watches, or none at all: `mutations.toml`
names the latter with the reason. The exit code is 1 where others survive.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build/mutations.jsonl"
NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".types", "build", "dist", "site", ".hypothesis", "node_modules"),
    *("__pycache__", "*.egg-info", ".*_cache"),
)
SAID = "said-by-tests.txt"
COUNT, GOAL = 200, 0.9
"""Faults, and the share of them that tests notice."""
_MOST_SECONDS, _MOST_WAITING, _MOST_BYTES = 300, 1800, 16 << 30
"""Of the processor, by the clock, and of address space, that the tests of one fault may take."""

SELECTION = "tests/compressors/selection"
METHODS = "tests/compressors/methods/test_methods.py"
CACHE = "tests/probes/kv_cache"
NEAREST: dict[str, dict[str, tuple[str, ...]]] = {
    "packer": {
        "compressors/selection/packer.py": (
            *(f"{SELECTION}/test_{name}.py" for name in ("select_rules", "leads", "sections")),
            *(f"{SELECTION}/test_{name}.py" for name in ("overlaps", "dedup_words", "select")),
        ),
    },
    "select": {
        "compressors/selection/select.py": (
            *(f"{SELECTION}/test_{name}.py" for name in ("select_rules", "leads", "spans")),
            *(f"{SELECTION}/test_{name}.py" for name in ("sections", "granularity", "select")),
        ),
        "compressors/method.py": (f"{SELECTION}/test_rendering.py",),
    },
    "rendering": {
        "compressors/selection/rendering.py": (
            f"{SELECTION}/test_rendering.py",
            f"{SELECTION}/test_select_rules.py",
            f"{SELECTION}/test_select.py",
        ),
    },
    "features": {
        "compressors/features/bm25.py": ("tests/compressors/features/test_words.py",),
        "compressors/features/gate.py": ("tests/compressors/features/test_stages.py",),
        "compressors/features/likeness.py": ("tests/compressors/features/test_rank_probe.py",),
        "compressors/features/rank_fusion.py": (
            "tests/compressors/pipeline/test_reranking.py",
            "tests/compressors/features/test_rank_probe.py",
        ),
        "compressors/features/rank_probe.py": ("tests/compressors/features/test_rank_probe.py",),
        "compressors/features/scales.py": ("tests/compressors/features/test_z_scores.py",),
        "compressors/features/second_step.py": (
            *(f"tests/compressors/features/test_{name}.py" for name in ("second_step", "levels")),
            *("tests/compressors/features/test_verdict.py", METHODS),
        ),
        "compressors/features/words.py": (
            *(f"tests/compressors/features/test_{name}.py" for name in ("words", "identifiers")),
            "tests/compressors/features/test_z_scores.py",
        ),
    },
    "signal": {"probes/signal.py": ("tests/probes/test_signal.py", METHODS)},
    "caches": {
        "probes/kv_cache/cache.py": (
            *(f"{CACHE}/test_{name}.py" for name in ("cache", "paused", "disk")),
        ),
        "probes/kv_cache/codec.py": (f"{CACHE}/test_cache.py", f"{CACHE}/test_unit_vectors.py"),
        "probes/kv_cache/disk.py": (f"{CACHE}/test_disk.py",),
        "probes/kv_cache/retrieved.py": (
            f"{CACHE}/test_retrieved.py",
            f"{CACHE}/test_retrieved_attention.py",
        ),
        "probes/kv_cache/serialization.py": (
            *(f"{CACHE}/test_{name}.py" for name in ("unit_vectors", "cache", "disk")),
        ),
        "probes/kv_cache/storage.py": (f"{CACHE}/test_cache.py", f"{CACHE}/test_unit_vectors.py"),
        "probes/lru.py": ("tests/probes/test_lru.py",),
        "service/http/runtime/result_cache.py": (
            "tests/service/http/runtime/test_result_cache.py",
        ),
    },
    "pipeline": {
        "compressors/pipeline/compression.py": (
            *(f"tests/compressors/pipeline/test_{name}.py" for name in ("compression", "adaptive")),
            *(f"tests/compressors/features/test_{name}.py" for name in ("coverage", "stages")),
            f"{SELECTION}/test_ordering.py",
        ),
        "compressors/pipeline/reranking.py": ("tests/compressors/pipeline/test_reranking.py",),
    },
}
"""Of each area its files, and the tests that must notice a fault in one, the quickest first."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of one place.

    Attributes:
        kind: arithmetic, comparison, constant or condition.
        within: the function or class. turn: of equal changes in it, which.
        before, after: the code, as Python writes it.
        start, stop: the bytes of the file that `after` takes the place of.
    """

    area: str
    file: str
    line: int
    kind: str
    within: str
    before: str
    after: str
    start: int
    stop: int
    turn: int = 0

    @property
    def key(self) -> str:
        """What tells it from all others, whatever stands above it in its file."""
        again = f" ({self.turn + 1})" if self.turn else ""
        return f"{self.file} {self.within}: {self.before} -> {self.after}{again}"

    @property
    def tests(self) -> tuple[str, ...]:
        """The files of tests that must notice it."""
        return NEAREST[self.area][self.file]

    def put_into(self, text: str) -> str:
        """The file's text with the fault."""
        whole = text.encode()
        return (whole[: self.start] + self.after.encode() + whole[self.stop :]).decode()


_OTHER: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.Pow: ast.Mult, ast.Mod: ast.FloorDiv, ast.FloorDiv: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
    **{ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In},
}
_SKIPPED = {"decorator_list", "annotation", "returns", "bases"}


Change = tuple[ast.AST, ast.AST]


def _arithmetic(node: ast.AST) -> Iterator[Change]:
    """The other operator; the smaller for the larger."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in _OTHER:
            if not (_is_text(left) or _is_text(right)):
                yield node, ast.BinOp(left, _OTHER[type(op)](), right)
        case ast.AugAssign(target, op, value) if type(op) in _OTHER and not _is_text(value):
            yield node, ast.AugAssign(target, _OTHER[type(op)](), value)
        case ast.Call(ast.Name("max" | "min")):
            yield node.func, ast.Name("min" if node.func.id == "max" else "max")


def _comparison(node: ast.AST) -> Iterator[Change]:
    """With the bound or without it; the opposite where there is none."""
    match node:
        case ast.Compare(left, ops, rights):
            for i, op in enumerate(ops):
                others = [*ops[:i], _OTHER[type(op)](), *ops[i + 1 :]]
                yield node, ast.Compare(left, others, rights)


def _condition(node: ast.AST) -> Iterator[Change]:
    """Without one of its parts; with all or any of them; never; in a comprehension always."""
    match node:
        case ast.BoolOp(op, values):
            yield node, ast.BoolOp(_OTHER[type(op)](), values)
            for i in range(len(values)):
                rest = [*values[:i], *values[i + 1 :]]
                yield node, rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(ast.Not(), operand):
            yield node, operand
        case ast.Call(ast.Name("any" | "all")):
            yield node.func, ast.Name("all" if node.func.id == "any" else "any")
        case ast.If(test) | ast.IfExp(test) if ast.unparse(test) != "TYPE_CHECKING":
            yield test, ast.Constant(False)
        case ast.comprehension(ifs=ifs):
            yield from ((test, ast.Constant(True)) for test in ifs)


def _constant(node: ast.AST) -> Iterator[Change]:
    """One more, twice as much, or the other."""
    match node:
        case ast.Constant(bool() as value):
            yield node, ast.Constant(not value)
        case ast.Constant(int() as value):
            yield node, ast.Constant(value + 1 if value < 10 else 2 * value)
        case ast.Constant(float() as value):
            yield node, ast.Constant(2 * value or 1.0)


KINDS = {
    "arithmetic": _arithmetic,
    "comparison": _comparison,
    "condition": _condition,
    "constant": _constant,
}


def _is_text(node: ast.AST) -> bool:
    """Whether it is text or a list as it is written: with another operator nothing would run."""
    texts = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp)
    return isinstance(node, texts) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _places(node: ast.AST, within: str) -> Iterator[tuple[ast.AST, str]]:
    """The nodes whose code can be changed, each with its function or class.

    Not those of types and decorators; and those in an f-string have no places of their own.
    """
    yield node, within
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                yield from _places(child, f"{within}.{child.name}".removeprefix("module."))
            elif isinstance(child, ast.AST):
                yield from _places(child, within)


def faults_of(area: str, file: str, text: str) -> list[Fault]:
    """All faults of a file that can be made, in the order of the file."""
    lines = [0]
    for line in text.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found: list[Fault] = []
    turns: Counter[tuple[str, ...]] = Counter()
    places = _places(ast.parse(text), "module")
    changes = (
        (kind, within, *change)
        for node, within in places
        for kind, changes_at in KINDS.items()
        for change in changes_at(node)
    )
    for kind, within, part, other in changes:
        before, after = ast.unparse(part), ast.unparse(other)
        if isinstance(other, ast.expr) and not isinstance(other, ast.Name | ast.Constant):
            after = f"({after})"
        place = (kind, within, before, after)
        start = lines[part.lineno - 1] + part.col_offset
        stop = lines[part.end_lineno - 1] + part.end_col_offset
        found.append(
            Fault(
                *(area, file, part.lineno, kind, within, before, after, start, stop),
                turn=turns[place],
            )
        )
        turns[place] += 1
    return found


def all_faults(root: Path = ROOT) -> list[Fault]:
    """All faults that can be made in the areas."""
    return [
        fault
        for area, files in NEAREST.items()
        for file in files
        for fault in faults_of(area, file, (root / file).read_text("utf-8"))
    ]


def drawn(faults: Iterable[Fault], seed: int, count: int) -> list[Fault]:
    """So many faults, areas and kinds in turn; fewer of them are the first of more."""
    cells: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        cells[fault.area, fault.kind].append(fault)
    kinds = list(KINDS)
    # along the diagonals, so that the first few are of all areas and of all kinds
    order = [(area, kinds[(i + turn) % 4]) for turn in range(4) for i, area in enumerate(NEAREST)]
    for cell in cells.values():
        cell.sort(key=lambda fault: _digest(f"{seed} {fault.key}"))
    turns = (
        cells[place][turn] for turn in range(count) for place in order if turn < len(cells[place])
    )
    return [fault for fault, _ in zip(turns, range(count), strict=False)]


def _digest(*texts: str) -> str:
    return blake2b("\0".join(texts).encode(), digest_size=12).hexdigest()


def equivalents() -> dict[str, str]:
    """The faults that are none, by their keys, with the reason."""
    named = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return {one["fault"]: one["why"] for one in named["equivalent"]}


def copied(home: Path) -> Path:
    """A copy of the tree whose packages are imported before any that is installed."""
    tree = home / "tree"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED, symlinks=True)
    subprocess.run(["make", "-s", "types"], cwd=tree, check=True)
    return tree


def tested(tree: Path, tests: Sequence[str]) -> tuple[bool, str]:
    """Whether the tests pass on the copy; else the first that does not, or their last words.

    They run in a fork of this process, which has imported what takes seconds.
    """
    shutil.rmtree(tree / ".hypothesis", ignore_errors=True)  # what an earlier fault was noticed by
    child = os.fork()
    if not child:
        try:
            _run_here(tree, tests)
        finally:
            os._exit(70)
    ended, began = 0, time.monotonic()
    try:
        while not ended and time.monotonic() - began < _MOST_WAITING:
            time.sleep(0.05)
            ended, status = os.waitpid(child, os.WNOHANG)
    finally:  # it may wait for ever, and so may what it started
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not ended:
            _, status = os.waitpid(child, 0)
    said = (tree / SAID).read_text("utf-8", "replace")
    lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    by = lines[0].split(" - ")[0].split(" ", 1)[1] if lines else said.strip()[-100:]
    return status == 0, by or f"ended by signal {status}"


def _run_here(tree: Path, tests: Sequence[str]) -> None:
    """Runs the tests in this process, which ends with it."""
    os.setsid()
    # a fault may never end, or take more and more
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    os.chdir(tree)
    file = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ |= {"PYTHONPATH": str(tree / ".types"), "OMP_NUM_THREADS": "1"}
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "tamis")]:
        del sys.modules[name]
    others = [path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / ".types")]
    sys.path[:] = [str(tree), str(tree / ".types"), *others]
    words = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    words += ["-m", "not model and not data"]  # those take seconds each, and notice late
    os._exit(pytest.main([*words, *tests]))


def check_copy(tree: Path) -> None:
    """Raises RuntimeError unless it is the copy that tests there import."""
    file = tree / "tests/test_whose.py"
    asked = "import tamis.probes.signal as m\ndef test(): assert m.__file__.startswith({!r})\n"
    file.write_text(asked.format(str(tree)), "utf-8")
    passed, told = tested(tree, ["tests/test_whose.py"])
    file.unlink()
    if not passed:
        raise RuntimeError(f"the tests would import another tree than the copy: {told}")


class Trials:
    """Tries faults on a copy of the tree; what was found in an earlier run is not tried again."""

    def __init__(self, tree: Path, results: Path, files: int | None = None) -> None:
        self.tree, self.results, self.files = tree, results, files
        self._passing: set[str] = set()
        self._clock = 1_000_000_000
        rows = results.read_text("utf-8").splitlines() if results.exists() else []
        self._known = {row["fault"]: row for row in map(json.loads, rows)}

    def known(self, fault: Fault) -> dict[str, Any] | None:
        """What an earlier run found, of the same file and the same tests."""
        row = self._known.get(fault.key)
        if row is None or row["digest"] != self._digest_of(fault, row["tests"]):
            return None
        return row if row["noticed_by"] or {*fault.tests[: self.files]} <= {*row["tests"]} else None

    def try_one(self, fault: Fault) -> dict[str, Any]:
        """The row of a fault: by which test it was noticed, empty if by none.

        Raises:
            RuntimeError: that test fails without the fault, too.
        """
        file = self.tree / fault.file
        whole = file.read_text("utf-8")
        self._write(file, fault.put_into(whole))
        try:
            passed, by = tested(self.tree, fault.tests[: self.files])
        finally:
            self._write(file, whole)
        tests = [*fault.tests[: self.files]]
        if "::" in by:
            self._check_passes(by)
            tests = [by.split("::")[0]]
        row = {
            "fault": fault.key,
            "noticed_by": "" if passed else by,
            "tests": tests,
            "digest": self._digest_of(fault, tests),
        }
        self.results.parent.mkdir(parents=True, exist_ok=True)
        with self.results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        self._known[fault.key] = row
        return row

    def _write(self, file: Path, text: str) -> None:
        """At another second each time: what was compiled of it is known by that and its size."""
        file.write_text(text, "utf-8")
        self._clock += 1
        os.utime(file, (self._clock, self._clock))

    def _check_passes(self, test: str) -> None:
        """What noticed a fault notices nothing where there is none."""
        test = test.split("[")[0]  # its parameters may be any text
        if test not in self._passing:
            passed, said = tested(self.tree, [test])
            if not passed:
                raise RuntimeError(f"without any fault {test} fails: {said}")
            self._passing.add(test)

    def _digest_of(self, fault: Fault, tests: Sequence[str]) -> str:
        texts = ((self.tree / file).read_text("utf-8") for file in (fault.file, *tests))
        return _digest(fault.key, *texts)


def said(line: str) -> None:
    """Prints a line at once: it may be minutes to the next."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show(
    faults: Sequence[Fault], rows: Mapping[str, Mapping[str, Any]], known: dict[str, str]
) -> bool:
    """Prints what was noticed, by area and kind, and what was not; whether that is enough."""
    screen = Console(width=None if sys.stdout.isatty() else 200)
    noticed = {fault.key for fault in faults if fault.key in rows and rows[fault.key]["noticed_by"]}
    tried = [fault for fault in faults if fault.key in rows or fault.key in known]
    table = Table("area", "noticed", "of", title="faults that a test noticed")
    for name in (*NEAREST, *KINDS):
        some = [fault for fault in tried if name in (fault.area, fault.kind)]
        table.add_row(name, str(sum(fault.key in noticed for fault in some)), str(len(some)))
    table.add_row("all", str(len(noticed)), str(len(tried)))
    screen.print(table)
    survivors = [fault for fault in tried if fault.key not in noticed]
    for fault in survivors:
        said(f"{fault.file}:{fault.line} in {fault.within}: {fault.before} -> {fault.after}")
        said(f"    {known.get(fault.key, 'NOT NOTICED by ' + ' '.join(fault.tests))}")
    explained = all(fault.key in known for fault in survivors)
    return explained and len(noticed) >= GOAL * len(tried)


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(
        "python -m tests.mutations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words.add_argument("--share", type=float, default=1.0, help="of the faults, 0 to 1")
    words.add_argument("--seed", type=int, default=0, help="draws others")
    words.add_argument("--only", default="", help="those with this in their area, file or function")
    words.add_argument("--files", type=int, metavar="N", help="only the N nearest files of tests")
    words.add_argument("--list", action="store_true", help="what would be tried")
    words.add_argument("--results", type=Path, default=RESULTS, help="what was found, kept")
    given = words.parse_args()
    every = all_faults()
    chosen = [
        fault
        for fault in drawn(every, given.seed, COUNT)[: round(given.share * COUNT)]
        if given.only in f"{fault.area} {fault.file} {fault.within}"
    ]
    known = equivalents()
    for gone in known.keys() - {fault.key for fault in every}:
        said(f"mutations.toml names what is no longer there: {gone}")
    if given.list:
        for fault in chosen:
            said(f"{fault.area:10}{fault.kind:11}{fault.line:5} {fault.key}")
        return 0
    rows: dict[str, Mapping[str, Any]] = {}
    for name in ("torch", "numpy", "hypothesis", "tokenizers", "safetensors.torch"):
        import_module(name)
    with tempfile.TemporaryDirectory() as home:
        tree = copied(Path(home))
        check_copy(tree)
        trials = Trials(tree, given.results, given.files)
        for i, fault in enumerate(fault for fault in chosen if fault.key not in known):
            row = rows[fault.key] = trials.known(fault) or trials.try_one(fault)
            by = row["noticed_by"] or "NOBODY"
            said(f"{i + 1:4} {fault.file}:{fault.line} {fault.kind}: {by}")
    return 0 if show(chosen, rows, known) else 1


if __name__ == "__main__":
    sys.exit(main())
