"""Features and scores besides attention: words, coverage, answerability, shipped probes, ranks.

May import the root of `compressors` and `reading`.
"""
