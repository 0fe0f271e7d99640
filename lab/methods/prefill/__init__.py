"""Sparse prefill: the contract of patterns, the attention in blocks, and a pass that obeys them.

May import `tamis` alone.
"""
