"""Studies of attention: layers and heads, ways to read multi-hop questions, attention sinks.

Imports `evaluation.evidence`, `training`, `datasets`, `compressors` and `probes`.
"""
