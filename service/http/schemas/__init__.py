"""The schemas of tamis's own requests and answers, and what all dialects share.

Imports `engine`, `api`, `files`, `compressors` and `probes`; knows nothing of routes and
the running service.
"""
