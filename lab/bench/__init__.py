"""Benchmarks on labelled records: runs over them, figures with intervals, tables and plots.

Imports `tamis`, and `train`, `methods` and `datasets` of the lab; commands are in `commands`.
"""
