"""Key selectors, one per file, compared by `tamis lab bench selectors`; the folder is the registry.

May import `tamis` and `methods.kv_search`.
"""
