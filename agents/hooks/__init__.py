"""Hooks of coding agents, before the shell runs a command and after a tool has run.

Imports what shortens results of tamis; what a hook needs is imported where it is used, for it
starts for every call.
"""
