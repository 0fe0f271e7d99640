"""Options that several commands share, and the parsing of their values.

Imports display, never a command.
"""
