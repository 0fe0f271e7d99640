"""Times of whole requests, on this tree and against another commit; a GPU measurement.

Imports `evaluation.evidence`, `compressors` and `probes`.
"""
