"""Every compressor at every ratio over the labelled outputs: one row each, with what was lost.

outputs ─ count tokens ─► limits ─ compressors ─► shown texts ─► rows ─► figures
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.compressors.rules import Budget
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.tools.compressors import OutputCompressor, Shortened
from tamis_lab.bench.tools.records import LabelledOutput
from tamis_lab.bench.tools.validity import count_reworded, count_violations, lost_labels


@dataclass(frozen=True, slots=True)
class ToolRow:
    """What one compressor made of one output at one ratio.

    Attributes:
        gold, errors: how many are labelled. gold_lost, errors_lost: texts of those that are lost.
        gold_reworded: how many of the lost are there in other words.
        violations: by rule. error: why there is no text, all else is then lost.
        shown: the shortened output.
    """

    compressor: str
    ratio: float
    kind: str
    id: str
    tokens_in: int
    limit: int
    tokens_out: int
    gold: int
    gold_lost: tuple[str, ...]
    gold_reworded: int
    errors: int
    errors_lost: tuple[str, ...]
    violations: Mapping[str, int]
    ms: float
    shown: str
    error: str | None = None

    @property
    def is_faulty(self) -> bool:
        """Whether anything is wrong with it: a label lost, a rule broken, nothing left."""
        wrong = self.gold_lost or self.errors_lost or any(self.violations.values())
        return bool(wrong or not self.shown.strip() or self.tokens_out > self.limit or self.error)


def tally_tools(
    outputs: Sequence[LabelledOutput],
    compressors: Mapping[str, OutputCompressor],
    ratios: Sequence[float],
    counter: TextTokenizer,
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[ToolRow]:
    """Yields a row an output, compressor and ratio.

    Args:
        ratios: shares of an output's tokens by `counter`, above 0 and at most 1.
        report: called after each output with how many are done.
    """
    for done, labelled in enumerate(outputs, 1):
        tokens = counter.count(labelled.text)
        limits = [_limit(ratio, tokens) for ratio in ratios]
        for name, compressor in compressors.items():
            shortened = compressor.shorten(labelled, limits)
            for ratio, limit, found in zip(ratios, limits, shortened, strict=True):
                yield _row(labelled, name, ratio, (tokens, limit, counter.count(found.text)), found)
        report(done)


def _limit(ratio: float, tokens: int) -> int:
    limit = Budget(ratio=ratio).tokens(tokens)
    return tokens if limit is None else limit


def _row(
    labelled: LabelledOutput, name: str, ratio: float, tokens: tuple[int, int, int], of: Shortened
) -> ToolRow:
    tokens_in, limit, tokens_out = tokens
    gold_lost = tuple(lost_labels(labelled, of.text, labelled.gold))
    return ToolRow(
        name,
        ratio,
        labelled.kind,
        labelled.id,
        tokens_in,
        limit,
        tokens_out,
        len(labelled.gold),
        gold_lost,
        count_reworded(gold_lost, of.text),
        len(labelled.errors),
        tuple(lost_labels(labelled, of.text, labelled.errors)),
        {} if of.error else count_violations(labelled, of.text, of.is_marker),
        of.ms,
        of.text,
        of.error,
    )


def row_json(row: ToolRow) -> dict[str, Any]:
    """A row as JSON, every field by its name."""
    return {name: getattr(row, name) for name in ToolRow.__slots__}
