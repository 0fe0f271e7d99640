"""A document as text: its blocks, sentences, records, language and terms; what callers give.

`readers/` tells what a text is made of, one file a form. Imports the root of `probes` only.
"""
