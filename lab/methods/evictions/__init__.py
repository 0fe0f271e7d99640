"""One file an eviction policy, by the file's name; the folder is the registry.

May import `tamis` and `methods.kv_thinning`.
"""
