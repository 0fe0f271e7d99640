"""The contract of a head finder, and its registry: a file in `finders/`, `Finder = TheClass`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tamis.probes.folder_registry import check_entry, entry_names, written_info

if TYPE_CHECKING:  # a list of finders needs no torch
    from torch import Tensor

    from tamis.service.datasets.records import Record

FOLDER = Path(__file__).parents[1] / "finders"
Progress = Callable[[int, int], None]
"""Called with how many cases are done, and of how many."""


@dataclass(frozen=True, slots=True)
class FinderInfo:
    """What a finder looks for, in a line, and where it comes from.

    Attributes:
        reads_records: whether it needs labelled questions.
    """

    summary: str
    source: str
    reads_records: bool = False


class HeadFinder:
    """Scores every head of a proxy; subclasses implement `find`."""

    info: ClassVar[FinderInfo]

    def __init__(self, reader: Any, seed: int = 0) -> None:
        """A finder by one proxy, loaded whole.

        Args:
            seed: of whatever is drawn.
        """
        self.reader, self.seed = reader, seed

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """The score of every head in each case, `[C, L, H]`; higher is better.

        Args:
            records: labelled questions; none for a finder that needs none.
        """
        raise NotImplementedError


def finder_names() -> list[str]:
    """The names of all finders in the folder."""
    return entry_names(FOLDER)


def finder_class(name: str) -> type[HeadFinder]:
    """The class of a finder.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    check_entry("finder", name, finder_names())
    found: type[HeadFinder] = importlib.import_module(
        f"tamis.service.training.finders.{name}"
    ).Finder
    return found


def finder_info(name: str) -> FinderInfo:
    """What a finder is, from its source where that has it in literals."""
    written = written_info(FOLDER / f"{name}.py", FinderInfo)
    return finder_class(name).info if written is None else written
