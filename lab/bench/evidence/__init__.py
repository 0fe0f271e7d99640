"""Evidence kept by methods, by language, and by the place of the evidence.

Imports `tamis` and `datasets`; the other benchmarks use its result files and plots.
"""
