"""Answers kept from pages as people have them: texts that four converters made of HTML manuals.

Imports `tamis` and `datasets`.
"""
