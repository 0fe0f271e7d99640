"""Reranking of candidates and retrieval from a corpus index, against judged documents.

Imports `tamis`, `bench.evidence` and `datasets`.
"""
