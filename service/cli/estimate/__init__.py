"""What tamis would save of a log of requests: its requests, and what they cost with and without.

Imports `http`, `batch`, `files`, `compressors` and `probes`, no commands, no options, no display.
"""
