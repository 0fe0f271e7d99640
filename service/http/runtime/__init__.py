"""What a running service consists of: settings, state, executor, methods, keys.

Imports `engine`, `api`, `retrieval`, `compressors` and `probes`; the middleware, the
routes and the app import it.
"""
