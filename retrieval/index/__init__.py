"""The corpus index: building, changing and searching it.

May import `probes`, `retrieval.storage` and `retrieval.keys`.
"""
