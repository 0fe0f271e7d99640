"""What mkdocs adds: pages of the repository's root, and links that leave docs.

`python docs/_site.py` writes the pages of docs/reference that are made from the code: the command
line from its help, Python from signatures and docstrings.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import posixpath
import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"][
    "Repository"
]
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository's root that are also pages of the site."""


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages whose source is not in docs/."""
    from mkdocs.structure.files import File

    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites links that leave docs/: to that file's page, or to the file in the repository."""
    source = page.file.src_uri
    here = "" if source in OUTSIDE.values() else posixpath.join("docs", posixpath.dirname(source))

    def rewrite_link(link: re.Match[str]) -> str:
        path, hash_, anchor = link[2].partition("#")
        target = posixpath.normpath(posixpath.join(here, path))
        inside = OUTSIDE.get(target, target.removeprefix("docs/"))
        if target in OUTSIDE or target.startswith("docs/"):
            start = posixpath.dirname(source) or "."
            return f"[{link[1]}]({posixpath.relpath(inside, start)}{hash_}{anchor})"
        return f"[{link[1]}]({REPOSITORY}/blob/main/{target}{hash_}{anchor})"

    fenced = re.sub(r"^```(\w+) [\w-]+$", r"```\1", markdown, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)", rewrite_link, fenced)


def command_line() -> Iterator[str]:
    """Every command of tamis with its parameters, from its help; what several have is said once.

    So are the examples that the commands of a group share.
    """
    import typer

    from tamis.service.cli.app import build_app

    yield "# Command line\n\nThis page is made from the help of the commands.\n"
    shown = list(commands(typer.main.get_command(build_app()), "tamis"))
    found = Counter(row for _, command in shown for row in rows(command))
    common, told = [row for row, times in found.items() if times > 1], set[str]()
    for path, command in shown:
        yield f"\n{'#' * path.count(' ')}# {path}\n\n{command.help or ''}\n\n"
        yield from table([row for row in rows(command) if row not in common])
        names = ", ".join(
            row.split(" | ")[0].lstrip("| ") for row in rows(command) if row in common
        )
        yield (
            f"\n[Options of several commands](#options-of-several-commands): {names}\n"
            if names
            else ""
        )
        yield "Its options are the [settings](../settings.md).\n" if path == "tamis serve" else ""
        if command.epilog and command.epilog not in told:
            told.add(command.epilog)
            yield f"\n{command.epilog.strip()}\n"
    yield "\n## Options of several commands\n\n"
    yield from table(sorted(common))


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The commands below one; those of other packages, such as the lab, are left out."""
    import click

    from tamis.service.cli.app import PluginCommand

    context = click.Context(command, info_name=path)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        below = command.get_command(context, name)
        if not (isinstance(below, PluginCommand) or below.hidden):
            yield f"{path} {name}", below
            yield from commands(below, f"{path} {name}")


def table(rows: list[str]) -> Iterator[str]:
    yield from ["| parameter | default | what it is |\n|---|---|---|\n", *rows] if rows else ()


def rows(command: Any) -> list[str]:
    """A row an argument or option; those of `serve` are on the page of settings."""
    made = []
    for parameter in command.params if command.name != "serve" else ():
        if getattr(parameter, "hidden", False):
            continue
        option = parameter.param_type_name == "option"
        name = f"`{', '.join(parameter.opts)}`" if option else f"`{parameter.name}`"
        default = "" if callable(parameter.default) else parameter.default
        plain = "" if default in (None, (), [], False, "") else f"`{default}`"
        text = (getattr(parameter, "help", "") or "").replace("\n", " ").replace("|", "\\|")
        made.append(f"| {name} | {plain} | {text} |\n")
    return made


FRAMEWORKS = ("tamis.langchain", "tamis.llamaindex")
OPAQUE = ("PassageCache", "Proxy")
"""Classes whose objects a user makes and hands on; what they do is for tamis alone."""
TYPES_OF_RESULTS = ("tamis.compressors.types:KeptUnit", "tamis.compressors.tools.types:Omission")


def python() -> Iterator[str]:
    """What `import tamis` and its doors offer: signatures, docstrings, public methods."""
    import tamis
    from tamis.probes import errors

    yield "# Python\n\nWhat `import tamis` offers. Each name is imported when it is first used.\n"
    yield "This page is made from signatures and docstrings.\n"
    offered = [getattr(tamis, name) for name in tamis.__all__ if not name.startswith("_")]
    kinds = [o for o in offered if isinstance(o, type) and not issubclass(o, Exception)]
    yield from map(entry, [o for o in offered if inspect.isfunction(o)])
    yield "\n## Types\n"
    yield from map(entry, [*kinds, *map(named, TYPES_OF_RESULTS)])
    yield "\n## Clients of a server: `tamis.client`\n"
    client = importlib.import_module("tamis.client")
    yield entry(client.Client)
    yield "\n`AsyncClient` has the same methods, to be awaited.\n"
    for name in FRAMEWORKS:
        module = importlib.import_module(name)
        yield f"\n## `{name}`\n"
        yield from map(entry, [getattr(module, each) for each in module.__all__])
    yield "\n## `tamis.haystack`\n\n`TamisRanker` has the fields of `TamisCompressor`: "
    yield "[how to use it](../how-to/langchain.md#haystack).\n"
    yield f"\n## Errors: `tamis.probes.errors`\n\n```text\n{tree_of(errors)}\n```\n"


def named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def tree_of(module: Any) -> str:
    """The tree that the docstring of the errors draws."""
    lines = (module.__doc__ or "").splitlines()
    return "\n".join(line for line in lines if line[:1] in "T├│└" and line)


def entry(of: Any) -> str:
    """A function, or a class with its public methods."""
    node = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0]
    made = next(
        (n for n in getattr(node, "body", ()) if getattr(n, "name", "") == "__init__"), node
    )
    shown = f"```text\n{wrapped(call(of.__name__, made))}\n```\n\n" if hasattr(made, "args") else ""
    text = f"\n### {of.__name__}\n\n{shown}{prose(inspect.getdoc(of) or '')}\n"
    for name, field in own_fields(of):
        text += f"\n* `{name}`: {field.description}"
    text += "\n" if own_fields(of) else ""
    for name, member in members(of):
        inner = ast.parse(textwrap.dedent(inspect.getsource(member))).body[0]
        sign = f".{name}" if isinstance(vars(of).get(name), property) else call(f".{name}", inner)
        text += f"\n`{sign}`\n\n{prose(inspect.getdoc(member) or '')}\n"
    return text


def members(of: Any) -> Iterator[tuple[str, Any]]:
    """The functions behind the public methods of a class, with docstrings.

    What pydantic puts into classes is left out, and so is what only the package uses: bases count
    where their methods are calls of the clients, which are shown by their requests.
    """
    shown = isinstance(of, type) and of.__name__ not in OPAQUE
    for base in of.__mro__ if shown else ():
        for name, method in vars(base).items():
            own = getattr(method, "__func__", getattr(method, "fget", method))
            below = getattr(own, "_to_request", own if base is of else None)
            ours = inspect.isfunction(below) and below.__module__.startswith("tamis")
            if ours and below.__doc__ and not name.startswith("_"):
                yield name, below


def own_fields(of: Any) -> list[tuple[str, Any]]:
    """The fields of a component for a framework; of one that extends `TamisCompressor`, the new."""
    fields = getattr(of, "model_fields", {})
    first = of.__name__ == "TamisCompressor"
    known = {} if first else importlib.import_module("tamis.langchain").TamisCompressor.model_fields
    return [(name, f) for name, f in fields.items() if f.description and name not in known]


def call(name: str, node: Any) -> str:
    """The signature as it is written, without `self`."""
    arguments = re.sub(r"^(self|cls)(, /)?(, )?", "", ast.unparse(node.args))
    made = ast.unparse(node.returns) if node.returns and node.name != "__init__" else ""
    answer = re.sub(r"^Request.(.+).$", r"\1", made)
    returns = f" -> {answer}" if made else ""
    return f"{'await ' * isinstance(node, ast.AsyncFunctionDef)}{name}({arguments}){returns}"


def wrapped(line: str) -> str:
    return "\n    ".join(textwrap.wrap(line, 110, break_long_words=False))


def prose(text: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    parts = re.split(r"^(Args|Attributes|Raises|Returns|Yields):\n", text, flags=re.MULTILINE)
    lines = [parts[0].strip()]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        section, _, after = body.partition("\n\n")
        found = re.split(r"^ {4}(?=\S)", section, flags=re.MULTILINE)[1:]
        rows = [" ".join(row.split()) for row in found]
        lines.append("" if title in ("Args", "Attributes") else f"\n{title}:\n")
        lines += [re.sub(r"^([\w*, ]+?): ", lambda m: f"* `{m[1]}`: ", row) for row in rows]
        lines.append(textwrap.dedent(after).strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


GENERATED: dict[str, Callable[[], Iterator[str]]] = {"cli": command_line, "python": python}
"""The pages of docs/reference that are made from the code."""


def page_of(name: str) -> str:
    """The text of a page that is made from the code."""
    return re.sub(r"[ \t]+$", "", "".join(GENERATED[name]()), flags=re.MULTILINE).strip() + "\n"


if __name__ == "__main__":
    for name in GENERATED:
        (ROOT / f"docs/reference/{name}.md").write_text(page_of(name), "utf-8")
