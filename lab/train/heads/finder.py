"""The contract of a head finder, and the finders: a file each, with `Finder = TheClass`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tamis.compressors.options import Configured, option
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


class HeadFinder(Configured):
    """Scores every head of a proxy; subclasses implement `find`, and have options as fields."""

    info: ClassVar[FinderInfo]
    reader: Any
    """The proxy, loaded whole."""
    seed: int = option(0, "Of whatever is drawn.")

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """The score of every head in each case, `[C, L, H]`; higher is better.

        Args:
            records: labelled questions; none for a finder that needs none.
        """
        raise NotImplementedError


FINDERS: FolderRegistry[type[HeadFinder], FinderInfo] = FolderRegistry(
    "finder", "tamis_lab/train/finders", FinderInfo
)
