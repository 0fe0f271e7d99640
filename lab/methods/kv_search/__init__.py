"""The contract of key selectors, for one head and for several, and where they are found.

May import `tamis` alone.
"""
