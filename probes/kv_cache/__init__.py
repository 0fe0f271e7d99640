"""A cache of the keys and values of passages, in memory and on disk.

May import the root modules of `probes`, `attention` and `model`.
"""
