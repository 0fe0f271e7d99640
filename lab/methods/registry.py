"""What benchmarks compare beside methods: readings, patterns, selectors and evictions.

A kind is a folder, and an entry a file there, whose last line is `Reading = TheClass` and the like.
The contract of each kind stands beside what calls it; a list of entries needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tamis.probes.folder_registry import EntryInfo, FolderRegistry

Needs = Literal["", "rows", "own_rows", "repeated_rows", "queries", "sizes", "spans"]


@dataclass(frozen=True, slots=True)
class PatternInfo(EntryInfo):
    """What a pattern is, in a line, and where it comes from.

    Attributes:
        share: what the share that a pattern is built with is a share of.
        needs_similarity: it is built with the similarity of the model's layers, see `Pattern`.
    """

    share: str = "blocks multiplied"
    needs_similarity: bool = False


@dataclass(frozen=True, slots=True)
class SelectorInfo(EntryInfo):
    """A description of a selector.

    Attributes:
        effort: what an effort counts, such as "pages read"; empty where there is only one effort.
        needs: what it needs beside the keys of one head: "heads", "layers" or "rows" that share a
            choice, or "values"; where it is not empty, the class is a `SharedSelectorClass`.
        reads_blocks: it reads consecutive keys whole, and `search` with a k of all keys returns
            every key that it read.
    """

    effort: str = ""
    needs: Literal["", "heads", "layers", "rows", "values"] = ""
    reads_blocks: bool = False


@dataclass(frozen=True, slots=True)
class EvictionInfo(EntryInfo):
    """A description of a policy.

    Attributes:
        needs: what it looks at beside keys and values: attention `rows` of asked questions,
            `own_rows` of the passage itself, `repeated_rows` of the passage read again behind
            itself, `queries` of questions, `sizes` of key heads in a probe, or losses by `spans`.
        shares: the only shares it can keep; empty for all.
        nested: a larger share keeps whatever a smaller one does.
    """

    needs: Needs = ""
    shares: tuple[float, ...] = ()
    nested: bool = True


READINGS: FolderRegistry[Any, EntryInfo] = FolderRegistry(
    "reading", "tamis_lab/methods/readings", EntryInfo
)
PATTERNS: FolderRegistry[Any, PatternInfo] = FolderRegistry(
    "pattern", "tamis_lab/methods/patterns", PatternInfo
)
SELECTORS: FolderRegistry[Any, SelectorInfo] = FolderRegistry(
    "selector", "tamis_lab/methods/selectors", SelectorInfo
)
"""Of `SelectorClass` or, where `info.needs` is not empty, of `SharedSelectorClass`."""
EVICTIONS: FolderRegistry[Any, EvictionInfo] = FolderRegistry(
    "eviction", "tamis_lab/methods/evictions", EvictionInfo
)
