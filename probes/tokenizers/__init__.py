"""Counting tokens by names that people know, exactly or by rules, without loading a model.

May import the root modules of `probes`.
"""
