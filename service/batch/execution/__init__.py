"""Runs the parts of a batch: in this process, in several processes, or on Ray.

Imports the rest of batch, and what batch may import.
"""
