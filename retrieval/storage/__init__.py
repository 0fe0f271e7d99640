"""The files of an index: chunks, segments, postings, the manifest, and their checks.

May import `probes`.
"""
