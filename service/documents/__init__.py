"""Bytes of a document as text: HTML, PDF and DOCX as what they show, anything else as it is.

Imports probes alone; the packages for PDF and DOCX are imported where they are used.
"""
