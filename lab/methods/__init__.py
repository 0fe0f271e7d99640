"""Published methods, a file each: `pyproject.toml` names them as entry points of `tamis.methods`.

May import `tamis`. Its folders hold the kinds that benchmarks compare.
"""
