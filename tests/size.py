"""How large what ships is: `python -m tests.size` prints the figures that test_size.py bounds.

A code line holds a token that is neither comment nor docstring. An importer is another module of
ours that names a module in an import or a string.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tamis.probes.plugins import AGENTS
from tamis.service.cli.commands import COMMANDS
from tests.import_graph import agents_files, module_graph, module_of, source_files

_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


@dataclass(frozen=True, slots=True)
class Size:
    """What ships, in figures.

    Attributes:
        code_lines: lines without blank lines, comments and docstrings.
        files: modules, the `__init__` of packages included.
        import_percent: the share of the code lines that import.
        single_importer: modules that exactly one other module imports, of either package.
        commands: what `tamis` can be told to do with it, without what others add.
        registries: objects that are made by a class called a registry.
    """

    code_lines: int
    files: int
    import_percent: float
    single_importer: int
    commands: int
    registries: int


def measure() -> Size:
    """The figures of tamis as it stands."""
    own = [name for name, home in COMMANDS.items() if home != AGENTS]
    return _measure(source_files(), len(list(commands(own))))


def measure_agents() -> Size:
    """Those of tamis-agents."""
    return _measure(agents_files(), sum(home == AGENTS for home in COMMANDS.values()))


def _measure(files: list[Path], count: int) -> Size:
    code = imports = registries = 0
    for path in files:
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        lines = code_lines(text, tree)
        code += len(lines)
        imports += len(lines & import_lines(tree))
        registries += sum(map(is_registry, ast.walk(tree)))
    graph = module_graph([*source_files(), *agents_files()])
    importers = Counter(target for targets in graph.values() for target in targets)
    single = sum(importers[module_of(path)] == 1 for path in files)
    return Size(code, len(files), round(100 * imports / code, 1), single, count, registries)


def code_lines(text: str, tree: ast.AST) -> set[int]:
    """The numbers of the lines that hold code."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found - docstring_lines(tree)


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines of strings that stand alone: docstrings, of attributes too."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def import_lines(tree: ast.AST) -> set[int]:
    """The lines of imports, at any depth."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def is_registry(node: ast.AST) -> bool:
    """Whether this is a name that is bound to a new registry."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
        return False
    made = node.value.func
    return isinstance(made, ast.Name) and made.id.endswith("Registry")


def commands(names: Iterable[str] = COMMANDS) -> Iterator[str]:
    """The commands below these: `compress`, `index build` and so on."""
    import typer

    from tamis.service.cli.app import build_app

    yield from _leaves(typer.main.get_command(build_app(names)), "")


def _leaves(command: Any, path: str) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path.strip()
        return
    for name, one in below.items():
        yield from _leaves(one, f"{path} {name}")


def main() -> None:
    """Prints each figure of tamis and of tamis-agents on a line."""
    sizes = [asdict(measure()), asdict(measure_agents())]
    for one in fields(Size):
        values = "".join(f"{size[one.name]:>9,}" for size in sizes)
        sys.stdout.write(f"{one.name.replace('_', ' '):16}{values}\n")


if __name__ == "__main__":
    main()
