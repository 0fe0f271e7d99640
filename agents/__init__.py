"""tamis_agents stands beside an agent and before a model: shorter results, tools, a gateway.

Imports the modules of tamis that `tests/test_layers.py` names, and `gateway`; tamis never imports
it, but finds its commands and its gateway by entry points.
"""
