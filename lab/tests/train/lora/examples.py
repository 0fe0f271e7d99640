"""Labelled questions that a tiny random model can learn from: gold is long and says what."""

from __future__ import annotations

from typing import Any

from lab.tests.bench.records import doc, record

PLACES = ("Malo", "Brest", "Vigo", "Cork", "Bari", "Gent", "Riga", "Oslo", "Turku", "Kiel", "Hull")


def example_records(prefix: str = "") -> list[dict[str, Any]]:
    """Three questions on each place: an article has one title and several questions."""
    asked = ("harbour", "market", "lighthouse")
    return [
        record(
            f"{prefix}{place}-{thing}",
            f"When was the {thing} of {place} closed?",
            doc(
                "It rains.",
                f"The old {thing} of {place} was closed for good in the year 19{i:02} by the town.",
                "Nobody knew.",
                gold=[1],
                title=place,
            ),
            doc("Bread was cheap then.", "A loaf cost two.", title=f"Bread of {place}"),
            doc("Cats sit.", f"The {thing} is red.", title="Cats"),
        )
        for i, place in enumerate(PLACES)
        for thing in asked
    ]
