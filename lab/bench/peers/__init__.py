"""tamis and published compressors on the same cases, each in its own process.

Imports `evaluation.evidence`, `datasets`, `compressors` and `probes`; adapters: `tests/peers`.
"""
