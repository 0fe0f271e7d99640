"""tamis and published compressors on the same cases, each in its own process.

Imports `tamis`, `bench.evidence` and `datasets`; adapters: `lab/tests/peers`.
"""
