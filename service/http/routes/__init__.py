"""The routes of the service: each validates a request, has it executed and builds the answer.

Imports `http.schemas`, `http.runtime` and `http.middleware`; the app imports the routes.
"""
