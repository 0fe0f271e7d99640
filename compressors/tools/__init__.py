"""What tools print, shortened for an agent: errors first, omissions marked.

May import the root of `compressors`.
"""
