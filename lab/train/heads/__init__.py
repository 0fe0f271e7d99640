"""Which heads of a proxy point at evidence, and how its attention depends on position.

Imports `tamis` and `datasets`.
"""
