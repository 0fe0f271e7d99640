"""The commands of `tamis lab` that fit, and how their results are drawn.

Imports `tamis`, `options`, `bench` and `train`; fits and heavy packages only inside functions.
"""
