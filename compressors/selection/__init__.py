"""Which units stay and how they are written: the budget packer, granularity, order, rendering.

May import the root of `compressors`.
"""
