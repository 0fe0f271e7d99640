"""Linear probes and profiles of attention heads: fitting, scoring, files.

May import the root modules of `probes` only.
"""
