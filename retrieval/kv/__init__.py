"""Search over the keys of one attention head: exact, approximate, and by key selectors.

May import `probes`.
"""
