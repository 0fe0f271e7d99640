"""Results of tools, shortened and kept: what adapters for agents and tamis-agents share.

Imports `api`, `compressors` and `probes`; knows neither our HTTP server nor the command line. What
a pipe or a hook needs is imported where it is used: both start for every call.
"""
