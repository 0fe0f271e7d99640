"""Ten faults put into the source, one at a time, each of which some test must notice.

    python -m tests.mutations            all; `make mutations`
    python -m tests.mutations --only checksum,span

The faults go into a copy of the tree, never into the tree itself; the tests named beside each run
on the copy. A fault that no test notices is a promise that nobody watches, and exit code 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "compressors", "retrieval", "service")
NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".types", "build", "dist", "site", ".hypothesis"),
    *("__pycache__", "*.egg-info", ".*_cache"),
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault: what it is, the line that is changed, and the tests that must notice."""

    name: str
    says: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "row",
        "the rows of the question begin one token late",
        "probes/prompt.py",
        "*self._end), len(self._question_prefix)",
        "*self._end), len(self._question_prefix) + 1",
        ("tests/probes/test_prompt.py",),
    ),
    Mutation(
        "renormalise",
        "sentinel's weights are not renormalised inside the context",
        "compressors/methods/sentinel.py",
        "signal.weights / total",
        "signal.weights",
        ("tests/compressors/methods/test_methods.py",),
    ),
    Mutation(
        "span",
        "what is shown of a passage ends one character late",
        "compressors/selection/rendering.py",
        "[*parts, text[start : last.visible[1]]]",
        "[*parts, text[start : last.visible[1] + 1]]",
        ("tests/laws/test_exact.py",),
    ),
    Mutation(
        "checksum",
        "the bytes of an index are not compared with their checksum",
        "retrieval/storage/files.py",
        "return checksum.hexdigest() == self.entry.blake2b",
        "return True",
        ("tests/retrieval/index/test_store.py",),
    ),
    Mutation(
        "pin",
        "a downloaded wheel is not compared with its pinned hash",
        "probes/hub/wheel.py",
        "if found != expected:",
        "if False:",
        ("tests/probes/hub/test_zoo.py",),
    ),
    Mutation(
        "budget",
        "one token over the budget is let through",
        "compressors/selection/packer.py",
        "while self.used_tokens > self.limit:",
        "while self.used_tokens > self.limit + 1:",
        ("tests/compressors/selection/test_select.py",),
    ),
    Mutation(
        "causal",
        "rows see the token after them",
        "probes/attention/recorder.py",
        "allowed = column <= row",
        "allowed = column <= row + 1",
        ("tests/probes/attention/test_attention_rows.py", "tests/probes/model/test_proxy.py"),
    ),
    Mutation(
        "conformal",
        "the quantile forgets the new question: n instead of n + 1",
        "compressors/pipeline/compression.py",
        "(len(lowest) + 1) + 1e-9",
        "len(lowest) + 1 + 1e-9",
        ("tests/compressors/features/test_coverage.py",),
    ),
    Mutation(
        "idf",
        "deleted chunks still count in the idf of BM25",
        "retrieval/storage/postings.py",
        "sum(int(m[chunks].sum()) for (chunks, _), m in zip(found, live, strict=True))",
        "sum(len(chunks) for chunks, _ in found)",
        ("tests/retrieval/storage/test_postings.py",),
    ),
    Mutation(
        "queue",
        "a full queue takes more all the same",
        "service/engine/queue.py",
        "if tokens and self._reserved_tokens and self._reserved_tokens + tokens > self.max_tokens:",
        "if False:",
        ("tests/service/engine/test_engine.py",),
    ),
)


def copied(home: Path) -> Path:
    """A copy of the tree whose packages are imported before any that is installed."""
    tree = home / "tree"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED, symlinks=True)
    names = tree / ".types/tamis"
    names.mkdir(parents=True)
    for folder in FOLDERS:
        (names / folder).symlink_to(tree / folder)
    for file in (tree / "service/front").glob("*.py*"):
        (names / file.name).symlink_to(file)
    return tree


def tested(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The tests on the copy, up to the first that fails."""
    words = ["-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / ".types"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def check_copy(tree: Path) -> None:
    """Raises RuntimeError unless it is the copy that tests there import."""
    asked = [sys.executable, "-c", "import tamis.probes.attention.recorder as m; print(m.__file__)"]
    environ = {**os.environ, "PYTHONPATH": str(tree / ".types")}
    told = subprocess.run(asked, cwd=tree, env=environ, capture_output=True, text=True, check=True)
    if not Path(told.stdout.strip()).resolve().is_relative_to(tree.resolve()):
        raise RuntimeError(f"the tests would import {told.stdout.strip()}, not the copy")


def noticed(tree: Path, mutation: Mutation) -> str | None:
    """The first test that notices the fault; None if none does. The file is put back.

    Raises:
        RuntimeError: the line to change is not there once, or the tests fail without the fault.
    """
    file = tree / mutation.file
    whole = file.read_text("utf-8")
    if whole.count(mutation.right) != 1:
        times = whole.count(mutation.right)
        raise RuntimeError(f"{mutation.file} has {mutation.right!r} {times} times; mend the list")
    file.write_text(whole.replace(mutation.right, mutation.wrong), "utf-8")
    done = tested(tree, mutation.tests)
    file.write_text(whole, "utf-8")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].split(" ", 1)[1] if done.returncode == 1 and failed else None


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(
        "python -m tests.mutations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [mutation.name for mutation in MUTATIONS]
    words.add_argument("--only", default=",".join(names), metavar="NAMES", help=", ".join(names))
    wanted = words.parse_args().only.split(",")
    table = Table("fault", "what is wrong", "file", "noticed by", "s")
    missed, said = 0, Console(stderr=True)
    with tempfile.TemporaryDirectory() as home:
        tree = copied(Path(home))
        check_copy(tree)
        chosen = [mutation for mutation in MUTATIONS if mutation.name in wanted]
        whole = tested(tree, tuple(dict.fromkeys(t for m in chosen for t in m.tests)))
        if whole.returncode:
            said.print(whole.stdout[-2000:])
            said.print("mutations: the tests fail without any fault; mend that first")
            return 2
        for mutation in chosen:
            began = time.monotonic()
            with said.status(f"{mutation.name}: {mutation.says}"):
                by = noticed(tree, mutation)
            missed += by is None
            seconds = f"{time.monotonic() - began:.0f}"
            table.add_row(mutation.name, mutation.says, mutation.file, by or "NOBODY", seconds)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
