"""Options that several commands share, and the parsing of their values.

Imports `cli.display`, `http.schemas`, `evaluation`, `batch`, `datasets`, `api`, `compressors` and
`probes`, never a command.
"""
