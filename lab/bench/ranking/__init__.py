"""Reranking of candidates and retrieval from a corpus index, against judged documents.

Imports `evaluation.evidence`, `datasets`, `files`, `retrieval`, `compressors` and `probes`.
"""
