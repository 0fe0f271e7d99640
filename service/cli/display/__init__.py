"""How results, progress and errors are shown: tables, bars, JSON and HTML.

Imports no commands and no options.
"""
