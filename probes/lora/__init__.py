"""Low-rank adapters in training, and reading with gradients.

May import the root modules of `probes`, `attention` and `model`.
"""
