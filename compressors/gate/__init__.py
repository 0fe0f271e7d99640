"""Reading in stages: what cannot matter ends early, and what it would have said is estimated.

Imports `compressors/features`, `compressors/reading` and `probes`.
"""
