"""What methods keep of the answers, and how clean it is, by format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.rules import WORTHLESS, Budget
from tamis.compressors.types import Compressed
from tamis.probes.segmentation.segment import segment
from tamis_lab.bench.documents.cases import DocumentCase
from tamis_lab.bench.documents.mid_sentence import stops_mid_sentence
from tamis_lab.datasets.records import is_covered


@dataclass(slots=True)
class MethodCounts:
    """Sums over the questions of one method and format.

    Attributes:
        held: questions whose chunks hold the answer. kept: of these, those whose answer was kept.
        units, mid_sentence, worthless: of the kept units all, those that stop in mid-sentence, and
            those whose probability is below the floor.
        tokens: of all outputs.
        misses: for each answer that was not kept where it stands in the ranking.
    """

    held: int = 0
    kept: int = 0
    units: int = 0
    mid_sentence: int = 0
    worthless: int = 0
    tokens: int = 0
    questions: int = 0
    misses: list[dict[str, Any]] = field(default_factory=list)

    def add(self, case: DocumentCase, result: Compressed, calibrated: bool) -> None:
        """Adds one question."""
        self.questions += 1
        self.tokens += result.tokens_out
        self.units += len(result.kept)
        shown = {kept.unit for kept in result.kept}
        # a unit that is shown with the next one is not cut there
        self.mid_sentence += sum(u + 1 not in shown and _is_cut(result, u) for u in shown)
        self.worthless += calibrated * sum(kept.score < WORTHLESS for kept in result.kept)
        if case.answer is None:
            return
        self.held += 1
        passage, start, stop = case.answer
        spans = [(k.start, k.stop) for k in result.kept if k.passage == passage]
        if is_covered(case.passages[passage].text, spans, start, stop):
            self.kept += 1
        else:
            self.misses.append(_miss(case, result))

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "questions": self.questions,
            "held": self.held,
            "kept": self.kept,
            "share_kept": round(self.kept / self.held, 4) if self.held else None,
            "units": self.units,
            "mid_sentence": self.mid_sentence,
            "worthless": self.worthless,
            "tokens": round(self.tokens / max(1, self.questions), 1),
            "tokens_an_answer": round(self.tokens / self.kept, 1) if self.kept else None,
            "misses": self.misses,
        }


def _miss(case: DocumentCase, result: Compressed) -> dict[str, Any]:
    """The units of an answer that was not kept whole.

    `ranks` are their places by score, the best is 1; `kept` says which of them were kept.
    """
    assert case.answer is not None
    passage, start, stop = case.answer
    units, shown = result.units, {kept.unit for kept in result.kept}
    own = [
        u
        for u, unit in enumerate(units)
        if unit.passage == passage and unit.start < stop and start < unit.stop
    ]
    order = sorted(range(len(units)), key=lambda u: (-result.scores[u], u))
    place = {u: rank for rank, u in enumerate(order, 1)}
    return {
        "id": case.id,
        "units": own,
        "ranks": [place[u] for u in own],
        "scores": [round(result.scores[u], 4) for u in own],
        "kept": [u in shown for u in own],
    }


def _is_cut(result: Compressed, u: int) -> bool:
    unit = result.units[u]
    if u + 1 == len(result.units) or result.units[u + 1].passage != unit.passage:
        return False
    return stops_mid_sentence(result.passages[unit.passage].text, result.units[u : u + 2], 0)


def segmentation_figures(texts: Iterable[str]) -> dict[str, Any]:
    """How many units some texts have, and how many of these stop in mid-sentence."""
    units = cut = 0
    for text in texts:
        pieces = segment(text)
        units += len(pieces)
        cut += sum(stops_mid_sentence(text, pieces, place) for place in range(len(pieces)))
    return {"units": units, "mid_sentence": cut, "share": round(cut / max(1, units), 5)}


def method_figures(
    cases: Sequence[DocumentCase],
    compressors: dict[str, Compressor],
    max_tokens: int,
    report: Callable[[int], None],
) -> dict[str, Any]:
    """Every method's figures on the cases of one format."""
    counts = {name: MethodCounts() for name in compressors}
    for done, case in enumerate(cases, 1):
        for name, compressor in compressors.items():
            result = compressor.compress(
                case.question, case.passages, Budget(max_tokens), language="en"
            )
            counts[name].add(case, result, result.answerability is not None)
        report(done)
    return {name: count.figures() for name, count in counts.items()}
