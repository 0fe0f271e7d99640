"""What a running service consists of: settings, state, executor, methods, log lines and meters.

Imports `engine`, `api`, `retrieval`, `compressors` and `probes`; the middleware, the
routes and the app import it.
"""
