"""What is recognised in a whole text, a file a format: JSON, diffs, listings, tables, pages.

A file has `parse`, which returns the parts of a text of its format and None for others. `PLACE`
gives the order in which formats are tried, the strictest first. May import all of
`probes.segmentation`.
"""
