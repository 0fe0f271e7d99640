"""How many keys each selector of `retrieval.kv` has to read to find those a query attends to.

Imports `tamis`, `bench.evidence` and `datasets`.
"""
