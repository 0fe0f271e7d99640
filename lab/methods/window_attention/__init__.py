"""The contract of a reading: what it is given of one window, and how it is found and run.

May import `tamis` alone.
"""
