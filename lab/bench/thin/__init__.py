"""What kept passages can lose: eviction policies and storages, all from one reading of each.

Imports `evaluation.evidence`, `evaluation.attention`, `api`, `datasets`, `compressors`, `probes`.
"""
