"""Ways to read the attention of a window, one file each: the folder is the registry.

May import the root modules of `probes`, `attention`, `model`, `probing` and `window_attention`.
"""
