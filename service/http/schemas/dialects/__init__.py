"""The requests and answers of other services' clients, one file for each dialect.

Imports what `schemas` imports, and `schemas` itself, which knows none of the dialects.
"""
