"""The Python calls of tamis: compress, rerank, ask_context, indexes, choice of the proxy.

Imports `files`, `retrieval`, `compressors` and `probes`; knows neither HTTP nor the command line.
"""
