"""The commands of `tamis lab bench`, one module each.

Imports `tamis`, `options` and `bench`; benchmarks and heavy packages only inside functions.
"""
