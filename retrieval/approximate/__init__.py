"""Approximate search over the token keys of a corpus index: lists of near keys, and ways to them.

May import `probes`, `retrieval.keys` and `retrieval.storage`.
"""
