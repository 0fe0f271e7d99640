"""Compresses corpora of any size: rows in, the same rows out with what was kept of each.

    input files ─► survey: parts ─► workers: rows ─► groups ─► one forward pass ─► OUT/part-*

A part is a run of consecutive rows; which rows it holds depends on the input alone. It is written
atomically, with a receipt beside it; a part that has a receipt is never done again.

Imports files, api, compressors and probes; knows neither HTTP nor the command line.
"""
