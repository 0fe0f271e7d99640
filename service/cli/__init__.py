"""The command line `tamis`: on top of everything else.

May import every other package; no other package imports it.
"""
