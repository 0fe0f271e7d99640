"""Published ways to leave parts of a long prompt out, a file each; the folder is the registry.

May import `tamis` and `methods.prefill`.
"""
