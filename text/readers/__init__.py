"""What a text is made of, one file a form; `outputs` reads what tools print.

May import the root of `probes` and `text`.
"""
