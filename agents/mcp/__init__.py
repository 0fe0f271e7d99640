"""tamis over MCP: a server with tools of its own, and one that stands before another server.

Imports `hooks`, and what shortens, compresses, ranks and searches of tamis.
"""
