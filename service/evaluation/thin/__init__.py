"""What kept passages can lose: eviction policies and storages, all from one reading of each.

May import whatever `service/evaluation` may.
"""
