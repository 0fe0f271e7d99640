"""What is recognised in lines, a file a tool: tracebacks, tests, diagnostics, logs.

A file has `HINT`, a pattern without which a text has nothing of it, and `mark_lines`, which marks
the lines of a `LineTable` and returns how many it recognised: the one with the most names the
format. `IS_GENERAL` says that many tools print such lines; such
files have a later `PLACE`.
May import `probes.segmentation.tool_output`'s `line_table`, `parts` and `stack_trace`.
"""
