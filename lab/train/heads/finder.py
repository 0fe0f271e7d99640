"""The contract of a head finder, and the finders: a file each, with `Finder = TheClass`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tamis.probes.folder_registry import EntryInfo, FolderRegistry

if TYPE_CHECKING:  # a list of finders needs no torch
    from torch import Tensor

    from tamis_lab.datasets.records import Record

Progress = Callable[[int, int], None]
"""Called with how many cases are done, and of how many."""


@dataclass(frozen=True, slots=True)
class FinderInfo(EntryInfo):
    """What a finder looks for, and what it needs.

    Attributes:
        reads_records: whether it needs labelled questions.
    """

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


FINDERS: FolderRegistry[type[HeadFinder], FinderInfo] = FolderRegistry(
    "finder", "tamis_lab/train/finders", FinderInfo
)
