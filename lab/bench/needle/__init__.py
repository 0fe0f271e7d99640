"""A needle sentence at every depth of haystacks of every length.

Imports `evaluation.evidence`, `datasets`, `compressors` and `probes`.
"""
