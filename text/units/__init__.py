"""A text as consecutive units: blocks by the readers, then sentences, then clauses.

May import the root of `probes` and all of `text`.
"""
