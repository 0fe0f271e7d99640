"""The command line `tamis`: on top of everything else.

May import every other package of tamis but `engine`, `integrations` and `front`; no other package
imports it.
"""
