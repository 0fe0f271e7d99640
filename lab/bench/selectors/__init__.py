"""How many keys each selector has to read to find those a query attends to.

Imports `tamis`, `bench.evidence` and `datasets`.
"""
