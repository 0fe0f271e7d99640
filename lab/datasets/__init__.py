"""Labelled records and queries, kept readings of them, scores and statistics over them.

Imports `tamis` alone.
"""
