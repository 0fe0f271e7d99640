"""Searches of an index's keys at several sizes: what they find, read, take and cost.

Imports `tamis`, `bench.evidence`, `bench.ranking` and `datasets`.
"""
