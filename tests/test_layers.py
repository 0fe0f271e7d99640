"""Who may import whom, read from the source; only the last test runs what it judges."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "compressors", "retrieval", "service")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MAY_IMPORT = {
    "probes": {"probes"},
    "compressors": {"probes", "compressors"},
    "retrieval": {"probes", "retrieval"},
    "service": set(FOLDERS),
}
TRANSFORMERS = {f"probes/{name}.py" for name in ("hosted", "encoder", "convert", "generate")}
HEAVY = ("torch", "transformers", "sklearn", "matplotlib", "fastapi", "faiss")


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that an import names, at any depth; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name, and every keyword that is not plainly False, as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            yield _name(node)
        elif isinstance(node, ast.keyword) and node.arg and not _is_false(node.value):
            yield node.arg


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def offences(
    why: Callable[[str, str], bool], read: Callable[[ast.AST], Iterator[str]]
) -> list[str]:
    """`file: name` for every name that `why(file, name)` objects to."""
    found = []
    for path in FILES:
        file = path.relative_to(ROOT).as_posix()
        seen = set(read(ast.parse(path.read_text("utf-8"))))
        found += [f"{file}: {name}" for name in sorted(seen) if why(file, name)]
    return found


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_there_is_something_to_judge():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} >= {
        "probes",
        "compressors",
        "service",
    }


def test_probes_import_none_of_ours_and_siblings_only_probes():
    def upwards(file: str, name: str) -> bool:
        home = file.split("/")[0]
        parts = name.split(".")
        ours = parts[1] if parts[0] == "tamis" and len(parts) > 1 else None
        # the door itself is service's: below, nobody goes out to come in again
        return (name == "tamis" and home != "service") or (
            ours in FOLDERS and ours not in MAY_IMPORT[home]
        )

    assert offences(upwards, imported) == []


def test_the_folders_are_never_imported_by_their_bare_names():
    """`import probes` in the repository's root would load every module a second time."""
    assert offences(lambda _, name: within(name, *FOLDERS), imported) == []


def test_imports_are_absolute():
    assert offences(lambda _, name: name.startswith("."), imported) == []


@pytest.mark.parametrize(
    ("module", "home"),
    [
        ("transformers", lambda file: file in TRANSFORMERS),
        ("faiss", lambda file: file.startswith("retrieval/")),
        ("fastapi", lambda file: file.startswith("service/")),
    ],
)
def test_a_library_stays_where_it_belongs(module: str, home: Callable[[str], bool]):
    assert offences(lambda file, name: within(name, module) and not home(file), imported) == []


def test_only_the_service_reads_the_environment():
    def reads(file: str, name: str) -> bool:
        return not file.startswith("service/") and within(
            name, "os.environ", "os.getenv", "os.environb", "os.putenv"
        )

    assert offences(reads, imported) == []
    assert offences(reads, names) == []


def test_nothing_is_unpickled_and_no_remote_code_is_trusted():
    pickles = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    calls = ("torch.load", "torch.save", "trust_remote_code", "allow_pickle")
    assert offences(lambda _, name: within(name, *pickles), imported) == []
    assert offences(lambda _, name: name in calls, names) == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules of a fresh interpreter, in the repository's root, after a statement."""
    script = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


HELP = """
sys.argv = ["tamis", "--help"]
from tamis.service.cli.main import run
try:
    run()
except SystemExit as done:
    assert not done.code, done.code
"""


@pytest.mark.parametrize("statement", ["import tamis", HELP], ids=["import tamis", "tamis --help"])
def test_the_front_door_opens_without_loading_a_model_library(statement: str):
    loaded = loaded_by(statement)
    assert "tamis" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint(FOLDERS)
