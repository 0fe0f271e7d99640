"""Finding, fetching, checking and storing models, and adapters for them.

May import the root modules of `probes`, `attention` and `model`.
"""
