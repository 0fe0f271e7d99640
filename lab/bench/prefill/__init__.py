"""Patterns of sparse prefill on long prompts: what each computes, keeps and costs.

Imports `tamis`, `bench.evidence`, `train` and `datasets`.
"""
