"""What is learnt from labelled records: probes, profiles of heads, codecs, low-rank adapters.

Imports `tamis`, and `methods` and `datasets` of the lab; commands are in `commands`.
"""
