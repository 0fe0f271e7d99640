"""Whether a language model still answers from compressed contexts, and when compression pays.

Imports `tamis` and `datasets`.
"""
