"""Engines that store an index's chunks and keys as multi-vectors, and search them.

May import `probes` and the other folders of `retrieval`.
"""
