"""The HTTP service: app, server, middleware, routes, schemas and the web page.

Does not know the command line, the benchmarks or the training.
"""
