"""A method and a command for tamis, in a package of their own."""

from collections.abc import Sequence
from typing import ClassVar

import typer

from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.options import option
from tamis.compressors.types import Scores
from tamis.text.types import Passage, Unit


class Digits(ScoringMethod):
    """The share of digits in each unit."""

    info: ClassVar[MethodInfo] = MethodInfo("prefers numbers; no model", "an example")
    least: int = option(1, "How many digits a unit must have to count.", ge=1)

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value a unit; a passage ranks by its best unit."""
        texts = [passages[unit.passage].text[unit.start : unit.stop] for unit in units]
        counts = [(sum(map(str.isdigit, text)), len(text)) for text in texts]
        values = tuple(digits / size if digits >= self.least else 0.0 for digits, size in counts)
        return Scores(values, best_unit_scores(values, units, len(passages)))


def count_digits(text: str) -> None:
    """Print how many digits a text has."""
    typer.echo(sum(map(str.isdigit, text)))
