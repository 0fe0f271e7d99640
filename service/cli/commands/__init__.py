"""The commands of `tamis`, one module each, except those of bench, probe and heads.

Imports display and options, and heavy packages only inside functions.
"""
