"""What tools print, cut into parts: whole lines, JSON elements, each with what it needs around it.

One file holds tools and formats of a kind; `blocks.py` and `parse.py` list them.
May import the root of `probes` and `text`.
"""
