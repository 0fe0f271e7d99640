"""Readings of attention compared: unfitted, with a probe on each, and with a probe on raw and each.

Imports `tamis`, `bench.evidence` and `datasets`.
"""
