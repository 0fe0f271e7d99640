"""A cross-encoder, taught on questions with passages by encoders and by judgements.

records, ranking sets ─ lists ─► passages a question ─ teachers ─► targets ─ student ─► adapters
"""
