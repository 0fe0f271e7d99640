"""Searches of an index's keys at several sizes: what they find, read, take and cost.

Imports `evaluation.evidence`, `evaluation.ranking`, `datasets`, `retrieval` and `probes`.
"""
