"""Vectors in fewer bits: 8 with a scale for each, or 1 to 8 with ranges of channels or tokens.

Imports torch alone.
"""
