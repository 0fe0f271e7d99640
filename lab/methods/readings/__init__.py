"""Ways to read the attention of a window, one file each: the folder is the registry.

May import `tamis` and `methods.window_attention`.
"""
