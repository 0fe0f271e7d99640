"""The routes of the service: each validates a request, has it executed and builds the answer.

Imports `http.schemas`, `http.runtime`, `http.middleware`, `engine`, `api`, `compressors` and
`probes`; the app imports the routes.
"""
