"""The benchmarks, one module each, all on one study: cases, rows, figures, table, plot.

Imports `tamis`, `options`, `methods`, `train` and `datasets`.
"""
