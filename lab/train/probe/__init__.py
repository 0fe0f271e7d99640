"""From labelled questions to probes: read the questions, fit, evaluate, calibrate coverage.

Imports `tamis` and `datasets`.
"""
