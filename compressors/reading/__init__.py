"""How passages are laid out for the proxy and read: windows, all in one prompt, long prompts.

May import the root of `compressors`.
"""
