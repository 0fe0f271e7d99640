"""Attention keys of chunks, queries of questions, and the heads that they are taken from.

May import `probes`.
"""
