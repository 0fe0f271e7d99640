"""ASGI middleware, outermost first: request log, API keys, body limits.

Imports `engine.errors`, `http.schemas` and `http.runtime`; the app and `upstream` import it, and
the routes for the log entry.
"""
