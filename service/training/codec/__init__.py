"""Fitting the codec of a model: `tamis cache fit`."""
