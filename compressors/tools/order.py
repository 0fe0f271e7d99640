"""In which order the parts of an output are taken until the budget is full."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.probes.segmentation.tool_output.parts import LAST_PROTECTED, ParsedOutput, Part

LARGE_TOKENS, LARGE_SHARE = 200, 0.1
"""A protected part of more tokens than both goes behind the others: it would keep them out."""
_NEAR = ((1, 0.5), (2, 0.25))
_FROM_HEADER = 0.4


def order_parts(
    parsed: ParsedOutput, values: Sequence[float], tokens: Sequence[int]
) -> tuple[list[int], int]:
    """Indexes of the parts in the order in which they are taken, and how many are protected.

    Args:
        values: a score a part; those of frames are ignored. tokens: of each part.
    """
    rows = [i for i, part in enumerate(parsed.parts) if not part.is_frame]
    protected = [i for i in rows if parsed.parts[i].level <= LAST_PROTECTED]
    large = max(LARGE_TOKENS, LARGE_SHARE * sum(tokens))
    protected.sort(key=lambda i: (tokens[i] > large, *_urgency(parsed.parts, values, i)))
    rest = [i for i in rows if parsed.parts[i].level > LAST_PROTECTED]
    wanted = _spread(parsed.parts, _relative(values))
    size = max(1, len(parsed.parts) - 1)
    rest.sort(key=lambda i: (-wanted[i] - _salience(parsed.parts[i], i / size), i))
    return protected + rest, len(protected)


def _spread(parts: Sequence[Part], values: Sequence[float]) -> list[float]:
    """Values with a share of those of the header and of the lines beside, under the same header.

    What answers is often the line after the one that has the words of the question.
    """
    groups = [part.needs for part in parts]
    spread = list(values)
    for i, part in enumerate(parts):
        near = [
            weight * values[j]
            for step, weight in _NEAR
            for j in (i - step, i + step)
            if 0 <= j < len(parts) and (groups[j] == groups[i] or j in part.needs)
        ]
        header = values[part.needs[-1]] if part.needs else 0.0
        spread[i] += max((*near, _FROM_HEADER * header), default=0.0)
    return spread


def _urgency(parts: Sequence[Part], values: Sequence[float], i: int) -> tuple[int, int, float, int]:
    """By level and turn; of several failures the one that is asked for first."""
    asked = max(values[j] for j in (i, *parts[i].needs))
    return parts[i].level, parts[i].turn, -asked, i


def _relative(values: Sequence[float]) -> list[float]:
    """Values between 0, the least, and 1, the greatest."""
    if not values or max(values) <= min(values):
        return [0.0] * len(values)
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]


def _salience(part: Part, place: float) -> float:
    """What a part is worth whatever is asked: by its level, and more at both ends.

    Args:
        place: from 0, the first part, to 1, the last.
    """
    return 0.1 * abs(2 * place - 1) - 0.1 * int(part.level)
