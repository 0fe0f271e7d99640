"""The table on data unlike the training's: every domain judged by fits that never saw it.

Imports `service/training`, `service/datasets`, `compressors` and `probes`.
"""
