"""tamis beside an agent: shorter tool results in pipes and hooks, and tools over MCP.

Imports `api`, `documents`, `retrieval`, `compressors` and `probes`; knows neither our HTTP server
nor the command line. What a pipe or a hook needs is imported where it is used: both start for every
call.
"""
