"""`tamis serve --upstream URL`: chats are forwarded, the results of tools in them shortened.

Imports `conversation`, `middleware`, `runtime` and `schemas` of this service, `engine` and
`probes`; the app imports it.
"""
