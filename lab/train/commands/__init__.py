"""The commands of `tamis probe` and `tamis heads`, and how their results are drawn.

Imports `cli.display` and `cli.options`, and `training`, `evaluation`, `datasets`, `compressors` and
`probes`; training and heavy packages only inside functions.
"""
