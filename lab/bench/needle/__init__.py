"""A needle sentence at every depth of haystacks of every length.

Imports `tamis`, `bench.evidence` and `datasets`.
"""
