"""Corpora of any size: rows in, the same rows out with what was kept of them.

    sources ─► plan: parts ─► workers: rows ─► groups ─► one reading for many rows ─► OUT/part-*

A part is a run of consecutive rows; which rows it holds depends on the input alone. It is written
in one piece, with a receipt beside it: what has a receipt is never done again.
"""
