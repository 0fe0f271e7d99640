"""Registries that are folders: a file is an entry by its name, so there is no list to edit."""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from tamis.probes.errors import UnknownMethod
from tamis.probes.plugins import Plugin, find_plugins, warn_of_plugin


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """What an entry is, in a line, and where it comes from: the paper, or whose idea it is.

    An entry's file writes it as one call with literals, so that it can be read without importing
    the file, which may take seconds, for torch. Kinds that say more of their entries extend it.
    """

    summary: str
    source: str


Entry = TypeVar("Entry")
Info = TypeVar("Info", bound=EntryInfo)


class FolderRegistry(Generic[Entry, Info]):
    """The entries of one kind: a class each, in a file of the kind's folder.

    The last line of `methods/lead.py` is `Method = Lead`: the entry `lead` of the kind "method".
    Files whose name begins with _ are no entries. Other packages add entries by entry points of the
    registry's group: what the folder has comes first.

    Attributes:
        kind: what messages call an entry; the last line of its file says it with a capital.
        folder: where the files are listed.
    """

    def __init__(
        self,
        kind: str,
        place: str,
        info: type[Info],
        group: str | None = None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        """Finds the folder.

        Args:
            place: the package of the files with slashes, such as `tamis/compressors/methods`.
            info: the type of what an entry says of itself.
            group: of the entry points by which other packages add entries; None for none.
            elsewhere: the names of entries that are known to be in other packages, with the
                command that installs each.
        """
        self.kind, self._info, self._group = kind, info, group
        self._package = place.replace("/", ".")
        self._elsewhere = elsewhere or {}
        spec = find_spec(self._package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"there is no package {self._package}")
        self.folder = Path(spec.submodule_search_locations[0])

    def names(self) -> list[str]:
        """The names of all entries, in order."""
        return sorted({*self.own_names(), *self._plugins()})

    def offer(self) -> str:
        """What messages name where a name is wanted."""
        return ", ".join(self.names())

    def own_names(self) -> list[str]:
        """The names of the entries in the folder, in order."""
        return list(_file_names(self.folder, self.folder.stat().st_mtime_ns))

    def package_of(self, name: str) -> str:
        """The distribution that an entry comes from.

        Raises:
            UnknownMethod: with the nearest name there is.
        """
        plugin = self._find(name)
        return plugin.package if plugin else self._package.partition(".")[0].replace("_", "-")

    def check(self, name: str) -> None:
        """Refuses what is not the name of an entry.

        Raises:
            UnknownMethod: with the nearest name there is.
        """
        self._find(name)

    def load(self, name: str) -> Entry:
        """The class of an entry; its file is imported.

        Raises:
            UnknownMethod: with the nearest name there is.
            BrokenPlugin: it is another package's, and cannot be loaded.
        """
        if plugin := self._find(name):
            return self._load_plugin(plugin)
        module = importlib.import_module(f"{self._package}.{name}")
        found: Entry = getattr(module, self.kind.capitalize())
        return found

    def info(self, name: str) -> Info:
        """What an entry says of itself, from its source where that has it in literals.

        Raises:
            UnknownMethod: with the nearest name there is.
            BrokenPlugin: it is another package's, and cannot be loaded.
        """
        plugin = self._find(name)
        source = plugin.source if plugin else self.folder / f"{name}.py"
        written = written_info(source, self._info) if source else None
        if written is not None:
            return written
        entry: Any = self.load(name)
        found: Info = entry.info
        return found

    def _find(self, name: str) -> Plugin | None:
        """The entry point of an entry; None for one of the folder."""
        if isinstance(name, str) and name in self.own_names():
            return None
        if isinstance(name, str) and (plugin := self._plugins().get(name)):
            return plugin
        if not isinstance(name, str):
            raise UnknownMethod(f"{self.kind} is {name!r:.80}; give one of {self.offer()}")
        if install := self._elsewhere.get(name):
            raise UnknownMethod(
                f"{self.kind} {name!r} is not installed; install it with: {install}"
            )
        near = difflib.get_close_matches(name, self.names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no {self.kind} {name!r}; {hint}there are: {self.offer()}")

    def _plugins(self) -> Mapping[str, Plugin]:
        """The entries of other packages, without those of a name that the folder has."""
        if self._group is None:
            return {}
        found = find_plugins(self._group)
        own = self.own_names()
        for name in sorted(set(own) & set(found)):
            warn_of_plugin(
                f"{name} of the package {found[name].package} is left out: tamis has a "
                f"{self.kind} of that name"
            )
        return {name: plugin for name, plugin in found.items() if name not in own}

    def _load_plugin(self, plugin: Plugin) -> Entry:
        found: Entry = plugin.load()
        if not isinstance(found, type) or not isinstance(getattr(found, "info", None), self._info):
            raise plugin.broken_error(
                f"{plugin.entry.value} is no class with an `info` of type {self._info.__name__}"
            )
        return found


@lru_cache(maxsize=16)
def _file_names(folder: Path, changed_ns: int) -> tuple[str, ...]:
    """Lists the folder as it was changed last: a service asks for this with every request."""
    return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))


def written_info(file: Path, info: type[Info]) -> Info | None:
    """`Info("...", ...)` of a file, if it occurs once and is made of literals."""
    found: Info | None = _parse_info(file, file.stat().st_mtime_ns, info)  # type: ignore[arg-type]
    return found


@lru_cache(maxsize=256)
def _parse_info(file: Path, changed_ns: int, info: type[Any]) -> Any:
    """Reads the file as it was changed last: parsing takes milliseconds."""
    module = ast.parse(file.read_text(encoding="utf8"))
    bodies = (module.body, *(top.body for top in module.body if isinstance(top, ast.ClassDef)))
    calls = [
        call
        for call in (getattr(statement, "value", None) for body in bodies for statement in body)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == info.__name__
    ]
    if len(calls) != 1:
        return None
    try:
        given = {word.arg or "": ast.literal_eval(word.value) for word in calls[0].keywords}
        return info(*map(ast.literal_eval, calls[0].args), **given)
    except ValueError:  # not all literals
        return None
