"""The HTTP service: app, server, middleware, routes, schemas and the web page.

Imports `engine`, `api`, `files`, `retrieval`, `compressors` and `probes`; does not know
the command line, the benchmarks or the training.
"""
