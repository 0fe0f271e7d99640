"""From a question and passages to what is kept of them: methods, selection, rendering, ranking.

Imports `probes` alone; its root (types, rules, a method's contract) imports none of its folders.
"""
