"""Finding passages by attention: a corpus index, and search over the keys of attention heads.

May import `probes`.
"""
