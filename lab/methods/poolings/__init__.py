"""Published ways to make one vector of an encoder's token states: entry points of `tamis.poolings`.

May import `tamis` alone.
"""
