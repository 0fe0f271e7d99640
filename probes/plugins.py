"""What other packages add to tamis, by entry points: methods, commands, a gateway and so on.

    [project.entry-points."tamis.methods"]
    digits = "tamis_digits:Digits"

The entry points are read from the metadata of what is installed, once a process and when they are
first asked for; a package is imported when what it adds is used. One that cannot be loaded is named
in a `PluginWarning`, or in a `BrokenPlugin` where somebody asked for it; nothing else fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BrokenPlugin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

METHODS_GROUP, POOLINGS_GROUP = "tamis.methods", "tamis.poolings"
SELECTORS_GROUP, COMMANDS_GROUP = "tamis.selectors", "tamis.commands"
HTTP_GROUP = "tamis.http"
LAB, AGENTS = "tamis-lab", "tamis-agents"
"""The benchmarks, the fits and the published methods; and what stands beside or before an agent."""
INSTALL = {
    LAB: "pip install ./lab in a clone of tamis",
    AGENTS: "pip install ./agents in a clone of tamis",
}
"""No index has them, so a name alone could bring somebody else's package."""


class PluginWarning(UserWarning):
    """Something that another package adds is left out; the message names the package."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed package."""

    entry: EntryPoint

    @property
    def name(self) -> str:
        """What it is called by those who use it."""
        return self.entry.name

    @property
    def package(self) -> str:
        """The distribution that it comes from."""
        dist = self.entry.dist
        return str(dist.metadata["Name"]) if dist else self.entry.module.partition(".")[0]

    @property
    def summary(self) -> str:
        """What the distribution says of itself, in a line."""
        dist = self.entry.dist
        return str(dist.metadata["Summary"]) if dist and "Summary" in dist.metadata else ""

    def load(self) -> Any:
        """What the entry point names; its module is imported.

        Raises:
            BrokenPlugin: it cannot be imported, for whatever reason.
        """
        try:
            return self.entry.load()
        except Exception as error:  # the code of others may raise anything
            raise self.broken_error(f"{type(error).__name__}: {error}") from error

    @cached_property
    def source(self) -> Path | None:
        """The file of its module, which is not imported.

        What is installed in place, not copied, is found by importing the packages around it.

        Raises:
            BrokenPlugin: its package cannot be imported, or has no such module.
        """
        path, dist = self.entry.module.replace(".", "/"), self.entry.dist
        for name in (f"{path}.py", f"{path}/__init__.py"):
            if dist and (copied := Path(str(dist.locate_file(name)))).is_file():
                return copied
        try:
            spec = find_spec(self.entry.module)
        except Exception as error:
            raise self.broken_error(f"{type(error).__name__}: {error}") from error
        if spec is None:
            raise self.broken_error(f"there is no module {self.entry.module}")
        found = Path(spec.origin or "")
        return found if found.suffix == ".py" and found.is_file() else None

    def broken_error(self, why: str) -> BrokenPlugin:
        """The error that says why it cannot be used, and whose it is."""
        return BrokenPlugin(
            f"{self.name} of the package {self.package} cannot be loaded "
            f"({why.splitlines()[0]:.200}); install that package again, or remove it: "
            f"pip uninstall {self.package}"
        )


def entry_points(group: str) -> Iterable[EntryPoint]:
    """The entry points of a group in all that is installed."""
    from importlib.metadata import entry_points  # as slow as all that `tamis pipe` needs of tamis

    return entry_points(group=group)


@lru_cache(maxsize=8)
def find_plugins(group: str) -> Mapping[str, Plugin]:
    """The entry points of a group by name, in order; of two of one name the first package's."""
    found: dict[str, Plugin] = {}
    every = [Plugin(entry) for entry in entry_points(group)]
    for plugin in sorted(every, key=lambda one: (one.name, one.package)):
        first = found.setdefault(plugin.name, plugin)
        if first.package != plugin.package:
            warn_of_plugin(
                f"{plugin.name} of the package {plugin.package} is left out: the package "
                f"{first.package} has one of that name"
            )
    return found


def warn_of_plugin(message: str) -> None:
    """Warns that something of another package is left out."""
    warnings.warn(message, PluginWarning, stacklevel=3)
