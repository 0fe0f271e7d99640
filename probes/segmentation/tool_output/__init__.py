"""What tools print, cut into parts: whole lines, JSON elements, each with what it needs around it.

May import the root of `probes` and `probes.segmentation`.
"""
