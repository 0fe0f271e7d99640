"""What a running service says of itself: log lines, meters and traces.

Imports `engine`, `api` and `probes`; `http.runtime`, the middleware, the routes and the app import
it.
"""
