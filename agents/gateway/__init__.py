"""`tamis serve --upstream URL`: chats are forwarded, the results of tools in them shortened.

Imports the service of tamis: `conversation`, `middleware`, `runtime` and `schemas`, and `engine`.
"""
