"""From labelled questions to probes: read the questions, fit, evaluate, calibrate coverage.

Imports `service/datasets`, `compressors` and `probes`.
"""
