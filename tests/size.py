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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.import_graph import module_graph, source_files

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
        single_importer: modules that exactly one other module imports.
        commands: what `tamis` can be told to do, without what other packages add.
        registries: objects that are made by a class called a registry.
    """

    code_lines: int
    files: int
    import_percent: float
    single_importer: int
    commands: int
    registries: int


def measure() -> Size:
    """The figures of the tree as it stands."""
    code = imports = registries = 0
    files = source_files()
    for path in files:
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        lines = code_lines(text, tree)
        code += len(lines)
        imports += len(lines & import_lines(tree))
        registries += sum(map(is_registry, ast.walk(tree)))
    importers = Counter(target for targets in module_graph().values() for target in targets)
    single = sum(count == 1 for count in importers.values())
    percent = round(100 * imports / code, 1)
    return Size(code, len(files), percent, single, len(list(commands())), registries)


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


def commands() -> Iterator[str]:
    """The commands of `tamis` itself: `compress`, `index build` and so on."""
    import typer

    from tamis.service.cli.app import build_app

    yield from _leaves(typer.main.get_command(build_app()), "")


def _leaves(command: Any, path: str) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path.strip()
        return
    for name, one in below.items():
        yield from _leaves(one, f"{path} {name}")


def main() -> None:
    """Prints each figure on a line."""
    for name, value in asdict(measure()).items():
        sys.stdout.write(f"{name.replace('_', ' '):16} {value:>8,}\n")


if __name__ == "__main__":
    main()
