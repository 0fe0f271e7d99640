"""Fitting the codec of a model, for `tamis lab fit-codec`: samples of keys and values, and the fit.

Imports `tamis` and `datasets`.
"""
