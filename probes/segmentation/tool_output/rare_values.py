"""Which rows of a table, or objects of an array, have a value that hardly any other has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

LEAST_ROWS = 8
"""Of fewer, none is unusual."""
_RARE_SHARE = 0.03
_MOST_KINDS = 0.2


def rows_with_rare_values(values: Mapping[int, str], rows: int, fields: int) -> set[int]:
    """The rows whose value in one column is rare; none if the column has too many values for that.

    Of 300 users, the one who is suspended.

    Args:
        values: of one column, by row; rows without it are left out.
        rows: how many there are in all. fields: of how many a fifth may be different values.
    """
    counts = Counter(values.values())
    if rows < LEAST_ROWS or not 1 < len(counts) <= max(3, _MOST_KINDS * fields):
        return set()
    limit = max(1, _RARE_SHARE * rows)
    return {i for i, value in values.items() if counts[value] <= limit}
