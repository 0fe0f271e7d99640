"""tamis_lab measures tamis, fits what it ships, and holds published methods for comparison.

Imports `tamis`; tamis never imports it, but finds its methods and commands by entry points.
"""
