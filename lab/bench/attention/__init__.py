"""Studies of attention: layers and heads, ways to read multi-hop questions, attention sinks.

Imports `tamis`, `bench.evidence`, `train` and `datasets`.
"""
