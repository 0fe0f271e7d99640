"""Times of whole requests, on this tree and against another commit; a GPU measurement.

Imports `tamis` and `bench.evidence`.
"""
