"""Measuring: labelled records, runs over them, and tables with intervals."""
