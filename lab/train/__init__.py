"""What is learnt from labelled records: probes, profiles of heads, low-rank adapters.

Imports `service/datasets`, `compressors` and `probes`; nothing that serves requests imports it.
"""
