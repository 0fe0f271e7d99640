"""Patterns of sparse prefill on long prompts: what each computes, keeps and costs.

Imports `evaluation.evidence`, `training`, `datasets`, `compressors` and `probes`.
"""
