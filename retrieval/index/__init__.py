"""The corpus index: building, changing and searching it.

May import `probes` and the other folders of `retrieval`.
"""
