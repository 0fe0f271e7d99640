"""How much of what matters in a tool's output is kept, and whether what is left is still valid.

Imports `evaluation.evidence`, `evaluation.peers`, `datasets`, `compressors` and `probes`; the
outputs beside it are made by `tests/tool_outputs`.
"""
