"""Many requests, one model: a bounded queue, fair batches, one model thread and its supervisor.

Imports `compressors` and `probes`; knows neither HTTP nor the command line.
"""
