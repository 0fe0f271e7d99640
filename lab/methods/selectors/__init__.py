"""Key selectors, one per file, compared by `tamis bench selectors`; the folder is the registry.

May import `probes` and `retrieval.kv`.
"""
