"""Who imports whom, read from the source: `python tests/import_graph.py` prints rooms by floor.

A room is a folder of `service/`, of `agents/` or of `lab/`, or one of the other four top folders as
a whole. A room stands one floor above the highest room that it imports; floor 1 imports none of
ours. The graphs are of what ships as tamis, unless the others are asked for, too.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "text", "compressors", "retrieval", "service")
AGENTS, LAB = "agents", "lab"
"""The folders of `tamis_agents` and `tamis_lab`; their tests and the log are no part of them."""
_PACKAGES = {"tamis": "", "tamis_agents": f"{AGENTS}/", "tamis_lab": f"{LAB}/"}
_NAMES = tuple(f"{name}." for name in _PACKAGES)
Graph = Mapping[str, set[str]]


def source_files() -> list[Path]:
    """Every module of the five folders."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def agents_files() -> list[Path]:
    """Every module of tamis-agents."""
    return _without_tests(ROOT / AGENTS)


def lab_files() -> list[Path]:
    """Every module of the lab."""
    return _without_tests(ROOT / LAB)


def all_files() -> list[Path]:
    """Every module of all three distributions."""
    return [*source_files(), *agents_files(), *lab_files()]


def _without_tests(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if folder / "tests" not in path.parents)


def module_of(path: Path) -> str:
    """Its path from the root without the suffix, `service/front` for a package's own module."""
    return path.relative_to(ROOT).as_posix().removesuffix(".py").removesuffix("/__init__")


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every module that an import names, at any depth; `from a import b` gives a.b and a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
            yield module


def module_graph(files: Sequence[Path] | None = None) -> Graph:
    """Module to the modules of ours that it imports: in functions, for types, by a string, too.

    Args:
        files: the modules; by default those that ship as tamis.
    """
    return _module_graph(tuple(source_files() if files is None else files))


@cache
def _module_graph(files: tuple[Path, ...]) -> Graph:
    modules = {module_of(path) for path in files}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for target in _targets(node, modules):
                if target != module_of(path):
                    graph[module_of(path)].add(target)
    return graph


def _targets(node: ast.AST, modules: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from filter(None, (_find(alias.name, modules) for alias in node.names))
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            # `from package import module`, else a name of the package's or module's own
            found = _find(f"{node.module}.{alias.name}", modules) or _find(node.module, modules)
            if found:
                yield found
    elif isinstance(node, ast.Constant) and str(node.value).startswith(_NAMES):
        # a module that is named in a string is imported late: by import_module, or by the front
        if found := _find(node.value, modules):
            yield found


def _find(name: str, modules: set[str]) -> str | None:
    top, _, rest = name.partition(".")
    path = (_PACKAGES.get(top, "?") + rest.replace(".", "/")).rstrip("/") or "service/front"
    return path if path in modules else None


def package_of(module: str) -> str:
    """The folder that a module lies in."""
    return module.rpartition("/")[0] if (ROOT / f"{module}.py").is_file() else module


def room_of(module: str) -> str:
    """`service/http`, `probes`, `agents/gateway`: what a newcomer sees as one thing.

    The commands of the lab are a room each, for a command may import any benchmark or fit.
    """
    parts = package_of(module).split("/")
    if parts[0] == LAB and parts[-1] == "commands":
        return "/".join(parts[:3])
    return "/".join(parts[:2]) if parts[0] in ("service", AGENTS, LAB) else parts[0]


def group_graph(graph: Graph, group_of: Callable[[str], str]) -> Graph:
    """The same graph between groups of modules."""
    groups: dict[str, set[str]] = defaultdict(set)
    for module, targets in graph.items():
        groups[group_of(module)] |= {group_of(target) for target in targets} - {group_of(module)}
    return groups


def circles(graph: Graph) -> list[list[str]]:
    """Sets of nodes that reach each other (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[-len(members) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floors(graph: Graph) -> dict[str, int]:
    """How high each node stands: 1 where it imports none of the others. There are no circles."""

    @cache
    def floor(node: str) -> int:
        return 1 + max((floor(target) for target in graph[node]), default=0)

    return {node: floor(node) for node in graph}


def main() -> int:
    """Prints the rooms from the top floor down, and every circle there is."""
    sys.setrecursionlimit(10_000)
    modules = module_graph(all_files())
    packages, rooms = group_graph(modules, package_of), group_graph(modules, room_of)
    tied = [*circles(modules), *circles(packages), *circles(rooms)]
    for one in tied:
        sys.stdout.write(f"circle: {', '.join(one)}\n")
    if not circles(rooms):
        of = floors(rooms)
        for room in sorted(rooms, key=lambda room: (-of[room], room)):
            imports = ", ".join(sorted(rooms[room])) or "none of ours"
            sys.stdout.write(f"floor {of[room]}  {room:24} imports {imports}\n")
    summary = f"{len(modules)} modules, {len(packages)} packages, {len(tied)} circles"
    sys.stdout.write(f"{summary}\n")
    return len(tied)


if __name__ == "__main__":
    sys.exit(main())
