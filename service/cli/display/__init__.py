"""How results, progress and errors are shown: tables, bars, JSON and HTML.

Imports `batch`, `files`, `retrieval`, `compressors` and `probes`, no commands and no options.
"""

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130
