"""The commands of `tamis probe` and `tamis heads`, and how their results are drawn.

Imports display and options; training and heavy packages only inside functions.
"""
