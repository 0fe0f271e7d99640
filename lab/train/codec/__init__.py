"""Fitting the codec of a model, for `tamis cache fit`: samples of keys and values, and the fit.

Imports `service/datasets`, `compressors` and `probes`.
"""
