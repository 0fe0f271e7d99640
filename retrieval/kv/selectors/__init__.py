"""Finding the keys that a query attends to, one way a file; `tamis bench selectors` compares them.

The folder is the registry: a public file is a selector, and its last line `Selector = TheClass`.
"""
