"""The commands of `tamis bench`, one module each.

Imports `cli.display` and `cli.options`, and `evaluation`, `datasets`, `api`, `retrieval`,
`compressors` and `probes`; evaluation and heavy packages only inside functions.
"""
