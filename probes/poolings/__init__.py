"""Ways to make one vector of an encoder's token states, one file each: the folder is the registry.

May import the root modules of `probes` only.
"""
