"""Conversations with tool results: their texts, the calls that made them, and their compression.

Imports `engine`, `api`, `compressors`, `probes`, and of this service its schemas and what runs; the
routes import it.
"""
