"""Evidence kept by methods, by language, and by the place of the evidence.

Imports `datasets`, `compressors` and `probes`; the other benchmarks use its result files and plots.
"""
