"""Everything that knows threads, files, sockets or a terminal.

The root imports nothing; which folder may import which: docs/architecture.md.
"""
