"""One file an eviction policy, by the file's name: see `kv_cache/eviction.py`.

May import `kv_cache/eviction.py` alone.
"""
