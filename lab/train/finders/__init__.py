"""Ways to find heads, one file each beside those of `heads`: the folder is the registry.

May import `tamis`, `train.heads`, `train.probe` and `datasets`.
"""
