"""One request from passages to a result: a compression, a reranking, results by passage.

May import everything in `compressors` but `methods`, which the registry finds.
"""
