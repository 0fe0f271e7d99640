"""The roles of a proxy's heads, averaged over the documents of labelled records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.reading.windows import split_windows
from tamis_lab.datasets.record_files import RecordFile, ReportProgress, answerable_records
from tamis_lab.datasets.records import passages_of, request_units
from tamis_lab.methods.readings.roles import Reading as Roles
from tamis_lab.methods.window_attention.passes import EMPTY_QUESTION, read_window


def measure_roles(reader: Any, files: Sequence[RecordFile], report: ReportProgress) -> Tensor:
    """The mean over all windows, by tokens, in the order of `readings.roles.ROLES`: `[L, H, 6]`.

    Args:
        reader: the proxy, loaded whole.
    """
    reading, layers = Roles(reader), range(reader.card.layers)
    total, rows = torch.zeros(()), 0
    for file in files:
        records = answerable_records(file)
        for done, record in enumerate(records, 1):
            for window in split_windows(reader.layout, passages_of(record), request_units(record)):
                seen = read_window(reader, window.tokens, EMPTY_QUESTION, layers, {"it": reading})
                count = seen["it"].shape.trunk - 1
                total = total + count * seen["it"].sums["roles"].result()
                rows += count
            report(file.name, done, len(records))
    return total / max(1, rows)
