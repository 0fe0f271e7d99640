"""Files here and at fsspec URLs, and their text: rows, corpora, a command's inputs, and documents.

Of HTML, PDF and DOCX the text is what they show. Imports probes and text; the packages for PDF and
DOCX are imported where they are used.
"""
