"""Attention kernels, and recording rows of attention while a model runs.

May import the root modules of `probes` only.
"""
