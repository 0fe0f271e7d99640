"""ASGI middleware, outermost first: request log, API keys, body limits.

Imports `engine.errors`, `http.schemas` and `http.runtime`; only the app imports it, and the routes
for the log entry.
"""
