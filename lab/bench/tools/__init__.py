"""How much of what matters in a tool's output is kept, and whether what is left is still valid.

Imports `tamis`, `bench.evidence`, `bench.peers` and `datasets`; the
outputs beside it are made by `lab/tests/tool_outputs`.
"""
