"""Key selectors, one a file, compared by `tamis bench selectors`; the folder is the registry.

May import `probes` and `retrieval.kv`.
"""
