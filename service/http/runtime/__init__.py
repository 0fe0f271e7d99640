"""What a running service consists of: settings, state, executor, methods, keys, metrics.

Imports `engine` and `api`; the middleware, the routes and the app import it.
"""
