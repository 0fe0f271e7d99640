"""Request and answer schemas of the service, one file for each dialect.

Imports `engine`, `api`, `files`, `compressors` and `probes`; knows nothing of routes and
the running service.
"""
