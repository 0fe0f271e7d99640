"""The commands of `tamis bench`, one module each.

Imports display and options; evaluation and heavy packages only inside functions.
"""
