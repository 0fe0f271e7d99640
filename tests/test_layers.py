"""Who may import whom, read from the source; only the last test runs what it judges."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.import_graph import (
    FOLDERS,
    ROOT,
    all_files,
    circles,
    floors,
    group_graph,
    imported_names,
    main,
    module_graph,
    package_of,
    room_of,
    source_files,
)

TRANSFORMERS = {
    *(f"probes/model/{name}.py" for name in ("hf_backend", "encoder", "convert")),
    "lab/bench/generate.py",
}
HEAVY = ("torch", "transformers", "sklearn", "matplotlib", "fastapi", "faiss")
FLOORS, LAB_FLOORS = 7, 9
BELOW = {
    "probes": set(),
    "text": {"probes"},
    "compressors": {"probes", "text"},
    "retrieval": {"probes", "text"},
    "service": set(),
    "service/files": {"probes", "text"},
    "service/engine": {"probes", "text", "compressors"},
    "service/api": {
        *("probes", "text", "compressors", "retrieval"),
        "service/files",
    },
    "service/front": {
        *("probes", "text", "compressors", "retrieval"),
        *("service/files", "service/api", "service/integrations"),
    },
    "service/http": {
        *("probes", "text", "compressors", "retrieval"),
        *("service/files", "service/engine", "service/api"),
    },
    "service/batch": {
        *("probes", "text", "compressors"),
        *("service/files", "service/api"),
    },
    "service/agents": {
        *("probes", "text", "compressors", "retrieval"),
        *("service/files", "service/api"),
    },
    "service/integrations": {
        *("probes", "text", "compressors", "retrieval"),
        *("service/files", "service/api", "service/http", "service/agents"),
    },
}
"""What each room may import. The command line may import everything of tamis."""
AGENTS_BELOW = {
    "agents/gateway": set(),
    "agents": {"agents/gateway"},
    "agents/commands": {"agents"},
}
"""What each room of tamis-agents may import of tamis-agents."""
FOR_AGENTS = {
    "probes": "errors extras lru tokens",
    "text": "language readers/outputs/json_parts types",
    "compressors": """
        method options pipeline/compression registry rules tools/markers tools/steps tools/types""",
    "service/files": "document_text streams",
    "service/engine": "errors request",
    "service/api": "arguments compress index languages rank_tools rerank",
    "service/agents": "result_texts shortening store",
    "service/batch": "job rows",
    "service/http": """
        conversation/billing conversation/candidates conversation/job conversation/tagged
        conversation/texts middleware/auth middleware/body_limits middleware/request_log
        routes/compress runtime/errors runtime/executor runtime/originals runtime/settings
        runtime/state runtime/telemetry schemas/base schemas/compress schemas/json
        schemas/messages""",
    "service/cli": """
        display display/bars display/batch_progress display/output options/compress_options
        options/model_folder options/typer_options""",
}
"""The modules of tamis that tamis-agents imports, by room: each is a promise to be kept."""
LAB_BELOW = {
    "lab/datasets": set(),
    "lab/methods": set(),
    "lab/train": {"lab/datasets", "lab/methods"},
    "lab/options": {"lab/datasets"},
    "lab/bench": {"lab/datasets", "lab/methods", "lab/options", "lab/train"},
    "lab/train/commands": {
        *("lab/datasets", "lab/methods", "lab/options", "lab/bench", "lab/train"),
    },
    "lab": {"lab/methods", "lab/train", "lab/bench", "lab/train/commands"},
}
"""What each room of the lab may import of the lab."""
COMMANDS = ("lab", "lab/options", "lab/bench", "lab/train/commands")
"""The rooms of the lab that may import the command line of tamis."""
SERVING = {f"service/{room}" for room in ("http", "batch", "agents", "integrations")}
"""What the lab imports nothing of: it measures what these serve, by the library and the engine."""


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


@cache
def names_in(path: Path, read: Callable[[ast.AST], Iterator[str]]) -> list[str]:
    """What is read of a file, each once; most of the rules below ask for the same."""
    return sorted(set(read(ast.parse(path.read_text("utf-8")))))


def offences(
    why: Callable[[str, str], bool], read: Callable[[ast.AST], Iterator[str]]
) -> list[str]:
    """`file: name` for every name that `why(file, name)` objects to."""
    found = []
    for path in all_files():
        file = path.relative_to(ROOT).as_posix()
        found += [f"{file}: {name}" for name in names_in(path, read) if why(file, name)]
    return found


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_there_is_something_to_judge():
    assert {path.relative_to(ROOT).parts[0] for path in source_files()} >= {
        "probes",
        "text",
        "compressors",
        "service",
    }


def test_a_room_imports_only_rooms_below_it():
    rooms = group_graph(module_graph(), room_of)
    wrong = {
        room: sorted(targets - BELOW[room])
        for room, targets in rooms.items()
        if room != "service/cli" and targets - BELOW[room]
    }
    assert wrong == {}


def test_the_lab_imports_what_is_below_it():
    rooms = group_graph(module_graph(all_files()), room_of)
    for room, targets in rooms.items():
        if room.startswith("lab"):
            own = {target for target in targets if target.startswith(("lab", "agents"))}
            assert own <= LAB_BELOW[room], room
            assert not targets & SERVING, room
            assert room in COMMANDS or "service/cli" not in targets, room


def test_tamis_agents_imports_what_is_below_it_and_the_named_modules_of_tamis():
    modules = module_graph(all_files())
    own = {module: targets for module, targets in modules.items() if module.startswith("agents")}
    for room, targets in group_graph(own, room_of).items():
        assert {one for one in targets if one.startswith("agents")} <= AGENTS_BELOW[room], room
    used = {target for targets in own.values() for target in targets if target not in own}
    named = {f"{room}/{name}" for room, names in FOR_AGENTS.items() for name in names.split()}
    assert sorted(used) == sorted(named)


def test_tamis_names_its_companions_where_it_says_how_to_install_them_and_nowhere_else():
    """It finds what they have by entry points, as it finds what any package has."""
    named = [
        (path.relative_to(ROOT).as_posix(), line.strip())
        for path in source_files()
        for line in path.read_text("utf-8").splitlines()
        if re.search("tamis_(lab|agents)|[\"']tamis-(lab|agents)", line)
    ]
    assert named == [("probes/plugins.py", 'LAB, AGENTS = "tamis-lab", "tamis-agents"')]


def test_no_import_leads_back_to_where_it_began():
    """Among modules, among folders, and among rooms; imports for types alone count, too."""
    modules = module_graph(all_files())
    for graph in (modules, group_graph(modules, package_of), group_graph(modules, room_of)):
        assert circles(graph) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_the_import_graph_has_few_floors(capsys: pytest.CaptureFixture[str]):
    assert max(floors(group_graph(module_graph(), room_of)).values()) <= FLOORS
    both = module_graph(all_files())
    assert max(floors(group_graph(both, room_of)).values()) <= LAB_FLOORS
    assert main() == 0
    assert capsys.readouterr().out.startswith("floor ")


def test_the_front_is_for_callers_alone():
    """`import tamis` from below would go out to come in again."""

    def imports_front(file: str, name: str) -> bool:
        outside = ("service/integrations", "service/cli", "agents/", "lab/")
        return name == "tamis" and not file.startswith(outside)

    assert offences(imports_front, imported_names) == []


def test_what_the_front_loads_late_is_what_type_checkers_see():
    tree = ast.parse((ROOT / "service/front/__init__.py").read_text("utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tamis.")
        for alias in node.names
        if alias.asname == alias.name
    }
    import tamis

    assert seen == {name: tamis._HOMES[name] for name in seen}
    assert set(tamis._HOMES) == set(seen) == set(tamis.__all__) - {"__version__"}


def test_a_private_name_stays_in_its_folder():
    """`_name` is of its folder alone: no other folder imports it, nor a module named so."""

    def foreign(file: str, name: str) -> bool:
        parts = name.split(".")
        if parts[0] not in ("tamis", "tamis_agents") or not any(
            p[0] == "_" and p[:2] != "__" for p in parts
        ):
            return False
        first = next(i for i, p in enumerate(parts) if p.startswith("_"))
        home = "/".join(parts[1:first] if parts[0] == "tamis" else ["agents", *parts[1:first]])
        return home.rpartition("/")[0] != file.rpartition("/")[0]

    assert offences(foreign, imported_names) == []


def test_every_folder_says_what_it_is_for_and_what_it_may_import():
    for path in all_files():
        if path.name == "__init__.py" and path.parent.name != "front":
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            assert len([line for line in text.splitlines() if line.strip()]) >= 2, path


def test_no_docstring_begins_in_the_middle_of_a_sentence():
    """`Of a long output, at least so many` leaves out who does what."""
    begin = re.compile(r'^\s*"""Of ', re.MULTILINE)
    assert [path for path in source_files() if begin.search(path.read_text("utf-8"))] == []


def test_the_folders_are_never_imported_by_their_bare_names():
    """`import probes` in the repository's root would load every module a second time."""
    assert offences(lambda _, name: within(name, *FOLDERS), imported_names) == []


def test_imports_are_absolute():
    assert offences(lambda _, name: name.startswith("."), imported_names) == []


@pytest.mark.parametrize(
    ("module", "home"),
    [
        ("transformers", lambda file: file in TRANSFORMERS),
        ("faiss", lambda file: file.startswith("lab/")),
        ("fastapi", lambda file: file.startswith("service/")),
        ("mcp", lambda file: file.startswith("agents/")),
    ],
)
def test_a_library_stays_where_it_belongs(module: str, home: Callable[[str], bool]):
    assert (
        offences(lambda file, name: within(name, module) and not home(file), imported_names) == []
    )


def test_only_the_service_reads_the_environment():
    """One other module sets what is not set: oneDNN takes the sizes of its caches from there."""
    setdefault = "os.environ.setdefault"

    def reads(file: str, name: str) -> bool:
        if file == "probes/attention/linear_kernels.py" and within(setdefault, name):
            return False
        return not file.startswith(("service/", "agents/", "lab/")) and within(
            name, "os.environ", "os.getenv", "os.environb", "os.putenv"
        )

    assert offences(reads, imported_names) == []
    assert offences(reads, names) == []


def test_nothing_is_unpickled_and_no_remote_code_is_trusted():
    pickles = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    calls = ("torch.load", "torch.save", "trust_remote_code", "allow_pickle")
    assert offences(lambda _, name: within(name, *pickles), imported_names) == []
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
        timeout=600,
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
def test_the_public_package_imports_without_a_model_library(statement: str):
    loaded = loaded_by(statement)
    assert "tamis" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint(FOLDERS)
