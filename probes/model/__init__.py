"""The proxy model: loading, forward passes, the encoder and the generator.

May import the root modules of `probes` and `attention`.
"""
