"""Benchmarks on labelled records: runs over them, figures with intervals, tables and plots.

Imports `training`, `datasets`, `files`, `retrieval`, `compressors` and `probes`. Nothing
that serves requests imports it, and it does not import the command line.
"""
