"""What mkdocs adds: the reference of the command line, made of its own help; the log; links out."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"LOG.md": "log.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository's root that are pages of the site, too."""


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are not files of docs/."""
    files.append(File.generated(config, "reference/cli.md", content="".join(command_line())))
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files beside docs/ go to their pages; to others, they become their names."""
    here = posixpath.dirname(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, found[2]))
        name = target.removeprefix("../")
        if name in OUTSIDE or target in OUTSIDE:
            return f"[{found[1]}]({posixpath.relpath(OUTSIDE[name], here or '.')})"
        outside = target.startswith("../") or page.file.src_uri in OUTSIDE.values()
        return f"{found[1]} (`{name.lstrip('./')}`)" if outside else found[0]

    fenced = re.sub(r"^```(\w+) [\w-]+$", r"```\1", markdown, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)\)", moved, fenced)


def command_line() -> Iterator[str]:
    """Every command with its parameters, as its help has them."""
    from tamis.service.cli.main import app

    yield "# Command line\n\nMade of the commands' own help.\n"
    root = typer.main.get_command(app)
    yield from commands(root, click.Context(root, info_name="tamis"), 2)


def commands(command: Any, context: click.Context, level: int) -> Iterator[str]:
    """A command, then those below it."""
    if context.parent is not None:
        yield f"\n{'#' * min(level, 4)} {context.command_path}\n\n{command.help or ''}\n\n"
        yield from parameters(command)
        if command.epilog:
            yield f"\n{command.epilog.strip()}\n"
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        below = command.get_command(context, name)
        deeper = level + (context.parent is not None)
        yield from commands(below, click.Context(below, info_name=name, parent=context), deeper)


def parameters(command: Any) -> Iterator[str]:
    """A table of arguments and options."""
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    if shown:
        yield "| parameter | default | what it is |\n|---|---|---|\n"
    for parameter in shown:
        option = parameter.param_type_name == "option"
        name = f"`{', '.join(parameter.opts)}`" if option else f"`{parameter.name}`"
        default = "" if callable(parameter.default) else parameter.default
        plain = "" if default in (None, (), [], False, "") else f"`{default}`"
        text = (getattr(parameter, "help", "") or "").replace("\n", " ").replace("|", "\\|")
        yield f"| {name} | {plain} | {text} |\n"
