"""The commands of `tamis`, one module each; `serve` has `keys`, too.

Imports `cli.display` and `cli.options`, and `http`, `batch`, `api`, `datasets`, `files`,
`retrieval`, `compressors` and `probes`; heavy packages only inside functions.
"""
