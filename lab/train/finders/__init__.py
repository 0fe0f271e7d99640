"""Ways to find heads, one file each beside those of `heads`: the folder is the registry.

May import `training/heads`, `training/probe`, `datasets`, `compressors` and `probes`.
"""
