"""The table on data unlike the training's: every domain judged by fits that never saw it.

Imports `tamis`, `train` and `datasets`.
"""
