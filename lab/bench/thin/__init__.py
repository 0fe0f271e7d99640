"""What kept passages can lose: eviction policies and storages, all from one reading of each.

Imports `tamis`, `bench.evidence`, `bench.attention` and `datasets`.
"""
