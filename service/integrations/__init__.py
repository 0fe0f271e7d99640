"""Adapters for LangChain and LlamaIndex, and the client of a tamis service.

Imports `api`, `http.schemas`, `retrieval`, `compressors` and `probes`.
"""
