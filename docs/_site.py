"""What mkdocs adds: the reference of the command line, made from its help; links out of docs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.structure.files import File

from tamis.service.cli.plugin_commands import PluginCommand, command_of

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository's root that are also pages of the site."""


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages whose source is not in docs/."""
    files.append(File.generated(config, "reference/cli.md", content="".join(command_line())))
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites links that leave docs/: to the page of that file, or to its name if it has none."""
    here = posixpath.dirname(page.file.src_uri)

    def rewrite_link(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[2]))
        name = target.removeprefix("../")
        if name in OUTSIDE or target in OUTSIDE:
            return f"[{link[1]}]({posixpath.relpath(OUTSIDE[name], here or '.')})"
        if page.file.src_uri in OUTSIDE.values() and target.startswith("docs/"):
            return f"[{link[1]}]({target.removeprefix('docs/')})"
        outside = target.startswith("../") or page.file.src_uri in OUTSIDE.values()
        return f"{link[1]} (`{name.lstrip('./')}`)" if outside else link[0]

    fenced = re.sub(r"^```(\w+) [\w-]+$", r"```\1", markdown, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)\)", rewrite_link, fenced)


def command_line() -> Iterator[str]:
    """Every command with its parameters, from its help."""
    from tamis.service.cli.app import app

    yield "# Command line\n\nMade from the help of the commands.\n"
    root = typer.main.get_command(app)
    yield from commands(root, click.Context(root, info_name="tamis"), 2)


def commands(command: Any, context: click.Context, level: int) -> Iterator[str]:
    """A command, then those below it; those of installed packages, such as the lab, are loaded."""
    if isinstance(command, PluginCommand):
        command = command_of(command.plugin)
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
