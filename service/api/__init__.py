"""The Python calls of tamis: compress, rerank, ask_context, indexes, choice of the proxy.

Imports `compressors`, `retrieval` and `files`; knows neither HTTP nor the command line.
"""
