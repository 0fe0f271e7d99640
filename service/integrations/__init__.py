"""Adapters for LangChain and LlamaIndex, and the client of a tamis service.

Imports `api` and `http.schemas`.
"""
