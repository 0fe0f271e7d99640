"""The proxy and its attention: text to units, prompts to signals, models, caches and probes.

Modules at this level import nothing of tamis but each other; sub-packages follow their own rule.
"""
