"""Splitting text into units, guessing its language, and its index terms.

May import the root modules of `probes` only.
"""
