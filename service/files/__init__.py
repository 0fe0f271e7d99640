"""Reads and writes files at local paths and fsspec URLs: rows, corpora and a command's inputs.

Imports probes, compressors and the storage formats of retrieval.
"""
