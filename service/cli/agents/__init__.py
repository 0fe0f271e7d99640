"""Commands for agents: pipes, hooks and an MCP server.

Imports the options and the display of the command line, `service/agents` and what these import.
"""
