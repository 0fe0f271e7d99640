"""Adapters for LangChain and LlamaIndex, and the client of a tamis service.

Imports `agents`, `api`, `http.schemas`, `retrieval`, `compressors` and `probes`.
"""
