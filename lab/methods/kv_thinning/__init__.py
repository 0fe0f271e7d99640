"""Eviction: the contract of policies, what they are shown, and how a passage is thinned.

May import `tamis` alone.
"""
